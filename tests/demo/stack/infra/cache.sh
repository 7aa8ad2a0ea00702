#!/bin/sh
# Redis with the data of this checkout.
exec redis-server --dir "$(cd "$(dirname "$0")/.." && pwd)/.data/${DATA:-own}/cache" --port "$CACHE_PORT"
