-- The limit: a prepared INSERT of one row.
INSERT INTO plain (body) VALUES (:body);
