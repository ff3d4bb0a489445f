-- Send: one call.
SELECT cmq_send('bench', :body);
