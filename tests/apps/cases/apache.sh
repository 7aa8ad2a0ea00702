program="Apache httpd"
what="root: mpm_event, www-data workers, port 80; graceful restart"
port=80
version() { apache2 -v | head -n 1 | grep -o 'Apache/[0-9.]*'; }
setup() {
    chmod 755 .; mkdir html; echo "$own" >html/index.html
    cat >httpd.conf <<END
ServerRoot /usr/lib/apache2
ServerName localhost
PidFile $folder/pid
ErrorLog $folder/error.log
DefaultRuntimeDir $folder
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule authz_host_module modules/mod_authz_host.so
LoadModule dir_module modules/mod_dir.so
LoadModule headers_module modules/mod_headers.so
User www-data
Group www-data
Listen 80
DirectoryIndex index.html
Header set Peer "expr=%{REMOTE_ADDR}"
DocumentRoot $folder/html
<Directory $folder/html>
Require local
</Directory>
END
}
start() { wrap apache2 -f "$folder/httpd.conf" -DFOREGROUND; }
check() {
    expect "Peer: 127.0.0.1" inside curl -sSi -4 localhost
    sed -i 's/Header set Peer/Header set Reloaded/' httpd.conf
    kill -USR1 "$(cat pid)"
    reloaded() { inside curl -si localhost | grep -q Reloaded; }
    wait_for 10 reloaded || fail "graceful restart: $(tail -n 3 error.log)"
    expect "$own" by_name "$instance.$name.localhost" /
}
