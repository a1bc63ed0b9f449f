#!/bin/sh
# Run until a file exists.
echo started
until [ -e "$UNTIL" ]; do sleep 0.1; done
echo ended
