-- A rewind of queue one that begins in the middle, of which some messages are consumed
-- again; and plain_rewound: the rows of the same table that the rewind does not bring back.
\set ON_ERROR_STOP on
SELECT cmq_rewind('one', (SELECT min(enqueued_at) + (max(enqueued_at) - min(enqueued_at)) / 2 FROM plain_one));
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM cmq_delete_batch('one', ARRAY(SELECT receipt_handle FROM cmq_receive('one', 1000)));
	END LOOP;
END $$;
SELECT cmq_maintain('one');
CREATE TABLE plain_due AS
SELECT a.msg_id, a.enqueued_at, a.first_received_at, a.deleted_at, a.deleted_by, a.receive_count, a.rewind_count, a.headers, a.body, a.state <> 'deleted' AS due
  FROM cmq.q_one_all a
 ORDER BY a.enqueued_at;
ALTER TABLE plain_due ADD PRIMARY KEY (msg_id);
CREATE INDEX ON plain_due (enqueued_at);
CREATE INDEX ON plain_due ((headers->>'shop'));
CREATE VIEW plain_rewound AS
SELECT msg_id, enqueued_at, first_received_at, deleted_at, deleted_by, receive_count, rewind_count, headers, body FROM plain_due WHERE NOT due;
VACUUM ANALYZE;
