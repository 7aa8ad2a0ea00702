program="php-fpm"
what="root: listen 127.0.0.1:9000, www-data workers, behind nginx on port 80 of the same instance"
port=80 path=/index.php
fpm=$(ls /usr/sbin/php-fpm* 2>/dev/null | head -n 1)
version() { [ -n "$fpm" ] && "$fpm" --version | head -n 1 | cut -d' ' -f1,2; }
setup() {
    chmod 755 .; echo "<?php echo '$own';" >index.php
    printf '[global]\nerror_log=%s/fpm.log\n[www]\nuser=www-data\ngroup=www-data\nlisten=127.0.0.1:9000\nlisten.allowed_clients=127.0.0.1\npm=static\npm.max_children=2\n' "$folder" >fpm.conf
    cat >nginx.conf <<END
daemon off; worker_processes 1; pid $folder/nginx.pid; user www-data;
events {}
http { access_log off; client_body_temp_path $folder/1; proxy_temp_path $folder/2; fastcgi_temp_path $folder/3;
    uwsgi_temp_path $folder/4; scgi_temp_path $folder/5;
    server { listen 80; location / { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME $folder/index.php; fastcgi_pass 127.0.0.1:9000; } } }
END
    printf '#!/bin/sh\n%s -F -R -y %s/fpm.conf &\nnginx -c %s/nginx.conf -e %s/error.log &\nwait\n' "$fpm" "$folder" "$folder" "$folder" >run; chmod +x run
}
start() { wrap ./run; }
ready() { inside curl -sf localhost/index.php; }
check() { ! taken 9000 || fail "port 9000 of the host is taken"; }
