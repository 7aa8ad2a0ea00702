program="Ruby WEBrick"
what="WEBrick::HTTPServer on port 8080"
port=8080
version() { ruby --version | cut -d' ' -f1,2; }
setup() { echo "s = WEBrick::HTTPServer.new(Port: 8080); s.mount_proc('/') { |q, r| r.body = \"$own peer=#{q.peeraddr[3]}\" }; trap('TERM') { s.shutdown }; s.start" >server.rb; }
start() { wrap ruby -rwebrick server.rb; }
check() { expect "peer=127.0.0.1" inside curl -s 127.0.0.1:8080; }
