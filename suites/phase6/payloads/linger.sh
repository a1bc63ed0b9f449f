#!/bin/sh
# Leave a process behind that has its own session, as daemons do, and wait for a file before ending.
setsid sleep 600 >/dev/null 2>&1 &
until [ -e "$UNTIL" ]; do sleep 0.05; done
