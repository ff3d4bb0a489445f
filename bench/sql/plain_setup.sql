-- psql, before each run: an empty table, the cheapest durable home of a message.
DROP TABLE IF EXISTS plain;
CREATE TABLE plain (
	id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at		timestamptz NOT NULL DEFAULT now(),
	body	text NOT NULL
);
