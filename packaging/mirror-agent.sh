#!/bin/sh
exec /usr/lib/mirror-agent/bin/python3.14 -IB -m agent "$@"
