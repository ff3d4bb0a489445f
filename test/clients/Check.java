import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.OffsetDateTime;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import org.postgresql.util.PGobject;

/** What arrives in JDBC: native types; arrays go in; a waiting receive can be cancelled. */
public class Check {
    static void check(boolean ok, String what) {
        System.out.println((ok ? "ok - " : "not ok - ") + what);
    }

    public static void main(String[] args) throws Exception {
        String queue = args[1];
        try (Connection conn = DriverManager.getConnection(args[0])) {
            List<Long> ids = new ArrayList<>();
            try (PreparedStatement st = conn.prepareStatement(
                    "SELECT cmq_send_batch(?, ?, 0, CAST(? AS jsonb[]))")) {
                st.setString(1, queue);
                st.setArray(2, conn.createArrayOf("text", new String[] {"a", "quoted \"b\"", "\u00fc"}));
                st.setArray(3, conn.createArrayOf("text", new String[] {"{\"n\": 1}", null, "{\"list\": [true]}"}));
                ResultSet rs = st.executeQuery();
                while (rs.next())
                    ids.add(rs.getObject(1, Long.class));
            }
            check(ids.size() == 3 && ids.get(0) < ids.get(1), "ids are Long");

            List<String> bodies = new ArrayList<>();
            List<String> headers = new ArrayList<>();
            List<String> handles = new ArrayList<>();
            List<OffsetDateTime> times = new ArrayList<>();
            try (PreparedStatement st = conn.prepareStatement("SELECT * FROM cmq_receive(?, 10)")) {
                st.setString(1, queue);
                ResultSet rs = st.executeQuery();
                while (rs.next()) {
                    bodies.add(rs.getString("body"));
                    headers.add(rs.getString("headers"));
                    handles.add(rs.getString("receipt_handle"));
                    times.add(rs.getObject("enqueued_at", OffsetDateTime.class));
                    if (rs.isFirst())
                        check(rs.getInt("receive_count") == 1, "counts are int");
                }
            }
            check(bodies.equals(List.of("a", "quoted \"b\"", "\u00fc")), "bodies");
            check("{\"n\": 1}".equals(headers.get(0)) && headers.get(1) == null, "headers are JSON text, or null");
            check(times.get(0).toInstant().toEpochMilli() == ids.get(0) / 1000, "times are OffsetDateTime of the right instant");

            try (PreparedStatement st = conn.prepareStatement("SELECT cmq_delete_batch(?, ?)")) {
                st.setString(1, queue);
                st.setArray(2, conn.createArrayOf("text", handles.toArray()));
                ResultSet rs = st.executeQuery();
                int n = 0;
                while (rs.next())
                    n++;
                check(n == 3, "an array of handles goes in");
            }
            try (PreparedStatement st = conn.prepareStatement("SELECT cmq_restore_messages(?, ?)")) {
                st.setString(1, queue);
                st.setArray(2, conn.createArrayOf("bigint", ids.subList(0, 2).toArray()));
                ResultSet rs = st.executeQuery();
                int n = 0;
                while (rs.next())
                    n++;
                check(n == 2, "an array of ids goes in");
            }
            OffsetDateTime later = OffsetDateTime.now().plusHours(1).truncatedTo(ChronoUnit.MICROS);
            try (PreparedStatement st = conn.prepareStatement("SELECT cmq_send(?, ?, deliver_at => ?)");
                    Statement look = conn.createStatement()) {
                look.execute("SELECT cmq_clear_queue('" + queue + "')");
                st.setString(1, queue);
                st.setString(2, "later");
                st.setObject(3, later);
                st.execute();
                ResultSet rs = look.executeQuery("SELECT state, visible_at FROM cmq.\"q_" + queue + "_live\"");
                rs.next();
                check("delayed".equals(rs.getString(1)) && later.isEqual(rs.getObject(2, OffsetDateTime.class)), "an OffsetDateTime goes in");
            }
            PGobject json = new PGobject();
            json.setType("jsonb");
            json.setValue("{\"item\": \"apples\"}");
            try (PreparedStatement st = conn.prepareStatement("SELECT cmq_send(?, ?)")) {
                st.setString(1, queue);
                st.setObject(2, json);
                st.execute();
                check(false, "a jsonb body needs a cast");
            } catch (SQLException error) {
                check("42883".equals(error.getSQLState()), "a jsonb body needs a cast");
            }
            try (PreparedStatement st = conn.prepareStatement("SELECT cmq_send(?, CAST(CAST(? AS jsonb) AS text))");
                    Statement get = conn.createStatement()) {
                st.setString(1, queue);
                st.setObject(2, json);
                st.execute();
                ResultSet rs = get.executeQuery("SELECT CAST(body AS jsonb) ->> 'item' FROM cmq_receive('" + queue + "')");
                rs.next();
                check("apples".equals(rs.getString(1)), "a JSON body comes back");
            }
            try (Statement st = conn.createStatement()) {
                st.execute("SELECT cmq_clear_queue('" + queue + "')");
                new Thread(() -> {
                    try {
                        Thread.sleep(1000);
                        st.cancel();
                    } catch (Exception error) {
                        error.printStackTrace();
                    }
                }).start();
                long begun = System.nanoTime();
                try {
                    st.executeQuery("SELECT * FROM cmq_receive('" + queue + "', polling_wait_seconds => 30)");
                    check(false, "a waiting receive is cancelled");
                } catch (SQLException error) {
                    check("57014".equals(error.getSQLState()) && System.nanoTime() - begun < 25e9, "a waiting receive is cancelled");
                }
                ResultSet rs = st.executeQuery("SELECT 1");
                rs.next();
                check(rs.getInt(1) == 1, "and the connection goes on");
            }
        }
    }
}
