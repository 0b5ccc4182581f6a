#!/bin/sh
echo "release $(cat version.txt) begins for $DYNO"
sleep "$(cat release.sleep)"
exit "$(cat release.code)"
