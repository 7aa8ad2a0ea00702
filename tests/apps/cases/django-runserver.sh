program="Django"
what="manage.py runserver with its reloader, port 8000; a change is reloaded"
port=8000
version() { "$python/django-admin" --version; }
setup() {
    "$python/django-admin" startproject site1 .
    sed -i "s/^ALLOWED_HOSTS.*/ALLOWED_HOSTS = ['*']/" site1/settings.py
    cat >site1/urls.py <<END
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("$own peer=" + request.META["REMOTE_ADDR"]))]
END
}
start() { wrap "$python/python" manage.py runserver; }
check() {
    expect "peer=127.0.0.1" inside curl -s localhost:8000
    sed -i 's/peer=/changed=/' site1/urls.py
    reloaded() { inside curl -s localhost:8000 | grep -q changed; }
    wait_for 20 reloaded || fail "the reloader did not restart it on the same port"
}
