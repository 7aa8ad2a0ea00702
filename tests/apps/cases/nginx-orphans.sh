program="nginx, orphaned workers"
what="the master is killed with -9, its workers serve on; agentfs stop ends them"
port=80
version() { nginx -v 2>&1 | grep -o '[0-9.]*$'; }
setup() {
    chmod 755 .; mkdir html; echo "$own" >html/index.html
    cat >nginx.conf <<END
daemon off; worker_processes 2; pid $folder/nginx.pid; error_log $folder/error.log; user www-data;
events {}
http {
    access_log off; client_body_temp_path $folder/1; proxy_temp_path $folder/2; fastcgi_temp_path $folder/3;
    uwsgi_temp_path $folder/4; scgi_temp_path $folder/5;
    server { listen 80; listen [::]:80; root $folder/html;
        location /peer { return 200 "peer=\$remote_addr server=\$server_addr:\$server_port\n"; }
 }
}
END
}
start() { wrap nginx -c "$folder/nginx.conf" -e "$folder/error.log"; }
stop() {
    kill -9 "$(cat nginx.pid)"
    expect "$own" inside curl -sS --retry 3 localhost
    agentfs -q stop "$name/$instance" --timeout 5 || fail "agentfs stop failed with $?"
}
