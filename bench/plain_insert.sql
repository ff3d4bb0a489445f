-- Baseline: one prepared single-row INSERT of the same body.
INSERT INTO plain (body) VALUES (:body);
