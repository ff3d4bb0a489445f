import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;

/**
 * A consumer of a cmq queue with JDBC: books each order once.
 *
 * <pre>java -cp postgresql.jar Consumer.java &lt;jdbc url&gt; &lt;queue&gt; [--drain]</pre>
 *
 * Runs until it is killed, or with --drain until the queue has nothing ready.
 *
 * Receives are committed at once, so a message that this consumer cannot handle,
 * or was handling when it died, comes back when its visibility timeout is over,
 * and goes to the dead-letter queue if there is one.  The work and the delete are
 * one transaction: a message is deleted if and only if it is booked.
 *
 * When the server restarts it connects again, with growing pauses.  What it had
 * received by then, and not yet deleted, comes back when the visibility timeout is
 * over.  If the connection was lost during a commit nobody knows whether the message
 * was booked: it comes back if it was not.
 */
public class Consumer {
    /** Seconds a receive waits for a message. */
    static final int WAIT = 20;
    /** Seconds until a message that failed is received again. */
    static final int RETRY = 10;
    /** Seconds between two tries to connect, at most. */
    static final int MAX_PAUSE = 30;

    record Message(long msgId, String receiptHandle, String body) {}

    static List<Message> receive(Connection conn, String queue, int wait) throws SQLException {
        List<Message> messages = new ArrayList<>();
        try (PreparedStatement st = conn.prepareStatement(
                "SELECT * FROM cmq_receive(?, 10, polling_wait_seconds => ?)")) {
            st.setString(1, queue);
            st.setInt(2, wait);
            try (ResultSet rs = st.executeQuery()) {
                while (rs.next())
                    messages.add(new Message(rs.getLong("msg_id"), rs.getString("receipt_handle"),
                            rs.getString("body")));
            }
        }
        return messages;
    }

    /** Book one order.  A message can come twice: the second time changes nothing. */
    static void handle(Connection conn, Message message) throws SQLException {
        try (PreparedStatement st = conn.prepareStatement(
                "INSERT INTO ledger (msg_id, item, amount)"
                        + " SELECT ?, o ->> 'item', (o ->> 'amount')::numeric FROM CAST(? AS jsonb) o"
                        + " ON CONFLICT (msg_id) DO NOTHING")) {
            st.setLong(1, message.msgId());
            st.setString(2, message.body());
            st.executeUpdate();
        }
    }

    static boolean delete(Connection conn, String queue, Message message) throws SQLException {
        try (PreparedStatement st = conn.prepareStatement("SELECT cmq_delete(?, ?)")) {
            st.setString(1, queue);
            st.setString(2, message.receiptHandle());
            try (ResultSet rs = st.executeQuery()) {
                rs.next();
                return rs.getBoolean(1);
            }
        }
    }

    static void retryLater(Connection conn, String queue, Message message) throws SQLException {
        try (PreparedStatement st = conn.prepareStatement("SELECT cmq_release(?, ?, ?)")) {
            st.setString(1, queue);
            st.setArray(2, conn.createArrayOf("text", new String[] {message.receiptHandle()}));
            st.setInt(3, RETRY);
            st.execute();
        }
    }

    static void consume(Connection conn, String queue, Message message) throws SQLException {
        conn.setAutoCommit(false);
        try {
            handle(conn, message);
            if (delete(conn, queue, message))
                conn.commit();
            else
                conn.rollback(); // it took too long and somebody else has it
            conn.setAutoCommit(true);
        } catch (SQLException error) {
            conn.rollback(); // fails if the connection is lost
            conn.setAutoCommit(true);
            System.err.println("message " + message.msgId() + " failed: " + error.getMessage());
            retryLater(conn, queue, message);
        }
    }

    /** True when the queue is drained, false when the connection is lost. */
    static boolean work(Connection conn, String queue, boolean drain) throws SQLException {
        try {
            for (;;) {
                List<Message> messages = receive(conn, queue, drain ? 0 : WAIT);
                if (drain && messages.isEmpty())
                    return true;
                for (Message message : messages)
                    consume(conn, queue, message);
            }
        } catch (SQLException error) {
            if (conn.isValid(10))
                throw error;
            System.err.println("connection lost: " + error.getMessage());
            return false;
        }
    }

    /** Connect again.  Not all consumers at the same moment. */
    static Connection reconnect(String url) throws InterruptedException {
        for (int pause = 1;; pause = Math.min(2 * pause, MAX_PAUSE)) {
            Thread.sleep((long) (pause * 1000 * (0.5 + Math.random() / 2)));
            try {
                return DriverManager.getConnection(url);
            } catch (SQLException error) {
                System.err.println("no connection, again in " + Math.min(2 * pause, MAX_PAUSE)
                        + " s at most: " + error.getMessage());
            }
        }
    }

    public static void main(String[] args) throws SQLException, InterruptedException {
        boolean drain = args.length > 2 && args[2].equals("--drain");
        // what is wrong from the start is an error
        Connection conn = DriverManager.getConnection(args[0]);
        for (;;) {
            try (Connection current = conn) {
                if (work(current, args[1], drain))
                    return;
            }
            conn = reconnect(args[0]);
        }
    }
}
