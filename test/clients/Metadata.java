import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.JDBCType;
import java.sql.ResultSet;
import java.util.ArrayList;
import java.util.List;

/** What JDBC tells of schema cmq, a line for each relation, column and index; and the tables of cmq_data. */
public class Metadata {
    public static void main(String[] args) throws Exception {
        try (Connection conn = DriverManager.getConnection(args[0])) {
            DatabaseMetaData meta = conn.getMetaData();
            List<String> names = new ArrayList<>();
            try (ResultSet rs = meta.getTables(null, "cmq", "%", new String[] {"TABLE", "PARTITIONED TABLE", "VIEW"})) {
                while (rs.next()) {
                    names.add(rs.getString("TABLE_NAME"));
                    System.out.println("relation " + rs.getString("TABLE_NAME"));
                }
            }
            try (ResultSet rs = meta.getColumns(null, "cmq", "%", "%")) {
                while (rs.next())
                    System.out.println("column " + rs.getString("TABLE_NAME") + " " + rs.getString("TYPE_NAME") + " "
                            + JDBCType.valueOf(rs.getInt("DATA_TYPE")));
            }
            for (String name : names) {
                try (ResultSet rs = meta.getIndexInfo(null, "cmq", name, false, true)) {
                    while (rs.next())
                        System.out.println("index " + name);
                }
            }
            try (ResultSet rs = meta.getTables(null, "cmq_data", "%", new String[] {"TABLE"})) {
                while (rs.next())
                    System.out.println("data " + rs.getString("TABLE_NAME"));
            }
        }
    }
}
