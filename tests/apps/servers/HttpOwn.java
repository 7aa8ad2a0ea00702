import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.*;

/** com.sun.net.httpserver on port 8080: says what the file `own` has, and who asks. */
class HttpOwn {
    public static void main(String[] arguments) throws Exception {
        String own = Files.readString(Path.of("own")).trim();
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.createContext("/", exchange -> {
            byte[] body = (own + " peer=" + exchange.getRemoteAddress().getAddress().getHostAddress() + "\n").getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
