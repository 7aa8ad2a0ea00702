program="PHP"
what="php -S localhost:8000"
port=8000 path=/index.php
version() { php --version | head -n 1 | cut -d' ' -f1,2; }
setup() { echo "<?php echo '$own peer=', \$_SERVER['REMOTE_ADDR'];" >index.php; }
start() { wrap php -S localhost:8000; }
check() { expect "peer=" inside curl -s localhost:8000/index.php; }
