import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.file.*;

/** One selector, non-blocking channels, port 8080; answers any request, then closes. Connects to itself first. */
class NioOwn {
    public static void main(String[] arguments) throws Exception {
        String own = Files.readString(Path.of("own")).trim();
        Selector selector = Selector.open();
        ServerSocketChannel server = ServerSocketChannel.open();
        server.configureBlocking(false);
        server.setOption(StandardSocketOptions.SO_REUSEADDR, true);
        server.bind(new InetSocketAddress("localhost", 8080));
        server.register(selector, SelectionKey.OP_ACCEPT);
        SocketChannel self = SocketChannel.open();
        self.configureBlocking(false);
        boolean done = self.connect(new InetSocketAddress("localhost", 8080));
        self.register(selector, done ? SelectionKey.OP_WRITE : SelectionKey.OP_CONNECT, "self");
        String mark = "";
        while (true) {
            selector.select();
            for (var keys = selector.selectedKeys().iterator(); keys.hasNext(); ) {
                SelectionKey key = keys.next();
                keys.remove();
                if (key.isAcceptable()) {
                    SocketChannel peer = server.accept();
                    peer.configureBlocking(false);
                    peer.setOption(StandardSocketOptions.TCP_NODELAY, true);
                    peer.register(selector, SelectionKey.OP_READ);
                } else if (key.isConnectable()) {
                    mark = ((SocketChannel) key.channel()).finishConnect() ? " self" : "";
                    key.cancel();
                } else if (key.isWritable()) {
                    mark = " self";
                    key.cancel();
                } else if (key.isReadable()) {
                    SocketChannel peer = (SocketChannel) key.channel();
                    int read = peer.read(ByteBuffer.allocate(8192));
                    if (read > 0) {
                        String body = own + mark + " peer=" + ((InetSocketAddress) peer.getRemoteAddress()).getAddress().getHostAddress() + "\n";
                        peer.write(ByteBuffer.wrap(("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + body.length() + "\r\n\r\n" + body).getBytes()));
                    }
                    if (read != 0) peer.close();
                }
            }
        }
    }
}
