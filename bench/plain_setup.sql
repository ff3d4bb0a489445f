-- psql, before each run of the baseline: an empty table.
DROP TABLE IF EXISTS plain;
CREATE TABLE plain (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	created_at	timestamptz NOT NULL DEFAULT now(),
	body		text NOT NULL
);
