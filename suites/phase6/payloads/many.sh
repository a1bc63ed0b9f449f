#!/bin/sh
# many.sh COUNT OPTION...: submit COUNT jobs that end at once, each by its own sbatch; print the id of each.
count=$1
shift
while [ "$count" -gt 0 ]; do
    printf '#!/bin/sh\ntrue\n' | sbatch --parsable "$@"
    count=$((count - 1))
done
