-- As cmq_cycle.sql.
\set g random(0, :groups - 1)
SELECT cmq_send(:queue, :body, message_group => 'g' || :g::text);
\set received 0
SELECT receipt_handle AS handle, 1 AS received FROM cmq_receive(:queue) \aset
\if :received
SELECT cmq_delete(:queue, :handle) AS deleted \gset
\else
INSERT INTO miss DEFAULT VALUES;
\endif
