import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

/**
 * A consumer of a cmq queue with JDBC: books each order once.
 *
 * <pre>java -cp postgresql.jar Consumer.java &lt;jdbc url&gt; &lt;queue&gt; [--drain]</pre>
 *
 * Needs Java 16 or newer and the JDBC driver, on Debian the packages default-jdk-headless
 * and libpostgresql-jdbc-java, which has /usr/share/java/postgresql.jar.
 * Bodies are JSON, {"item": "apples", "amount": 2}, and are booked in
 *
 * <pre>CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);</pre>
 *
 * Runs until it is killed, or with --drain until the queue has nothing ready.
 *
 * The work is in the same database, so a message and its work are one transaction: it
 * is consumed if and only if it is booked, exactly once, and what this consumer was
 * handling when it died is ready at once.  A message that it cannot handle is rolled
 * back, and then received by its id and released: that is counted, so that it comes
 * again later, and goes to the dead-letter queue in the end if there is one.
 *
 * Work that takes long, or is done elsewhere, does not go into a transaction: then
 * receive, commit, work, and delete (docs/applications.md, Receive and delete).
 *
 * When the server restarts it connects again, with growing pauses.  If the connection
 * was lost during a commit nobody knows whether the message was booked: it is ready
 * again if it was not.
 */
public class Consumer {
    /** Seconds a call waits for a message. */
    static final int WAIT = 20;
    /** Seconds until a message that failed is ready again. */
    static final int RETRY = 10;
    /** Seconds between two tries to connect, at most. */
    static final int MAX_PAUSE = 30;

    record Message(long msgId, String body) {}

    /** The message that is consumed by the transaction, or null if there is none. */
    static Message take(Connection conn, String queue, int wait) throws SQLException {
        try (PreparedStatement st = conn.prepareStatement(
                "SELECT * FROM cmq_consume(?, polling_wait_seconds => ?)")) {
            st.setString(1, queue);
            st.setInt(2, wait);
            try (ResultSet rs = st.executeQuery()) {
                return rs.next() ? new Message(rs.getLong("msg_id"), rs.getString("body")) : null;
            }
        }
    }

    /** Book one order.  A message that is brought back changes nothing. */
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

    /** Have a message come again later.  Nothing happens if somebody else has it by now. */
    static void countFailure(Connection conn, String queue, Message message) throws SQLException {
        try (PreparedStatement st = conn.prepareStatement(
                "SELECT cmq_release(?, ARRAY(SELECT receipt_handle"
                        + " FROM cmq_receive_messages(?, ARRAY[?::bigint])), ?)")) {
            st.setString(1, queue);
            st.setString(2, queue);
            st.setLong(3, message.msgId());
            st.setInt(4, RETRY);
            st.execute();
        }
    }

    /** Consume one message, if there is any: true.  Waits for so many seconds. */
    static boolean consume(Connection conn, String queue, int wait) throws SQLException {
        Message message = null;
        conn.setAutoCommit(false);
        try {
            message = take(conn, queue, wait);
            if (message != null)
                handle(conn, message);
            conn.commit();
            conn.setAutoCommit(true);
        } catch (SQLException error) {
            conn.rollback(); // fails if the connection is lost
            conn.setAutoCommit(true);
            if (message == null)
                throw error;
            System.err.println("message " + message.msgId() + " failed: " + error.getMessage());
            countFailure(conn, queue, message);
        }
        return message != null;
    }

    /** True when the queue is drained, false when the connection is lost. */
    static boolean work(Connection conn, String queue, boolean drain) throws SQLException {
        try {
            for (;;) {
                if (!consume(conn, queue, drain ? 0 : WAIT) && drain)
                    return true;
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
