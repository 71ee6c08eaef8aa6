# What tools/test-docker.sh looks at between the commands of docs/docker.md. Sourced into the shell that runs them.

set -o pipefail

# eventually SECONDS COMMAND…: until it succeeds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "not in time: $*"; return 1; }
        sleep 0.3
    done
}

on_failure() {
    docker ps -a
    local container
    for container in $(docker ps -aq); do
        echo "--- $(docker inspect --format '{{.Name}} {{.State.Status}} killed for memory: {{.State.OOMKilled}}' "$container")"
        docker logs --tail 15 "$container" 2>&1
    done
}

a_single_container_needs_nothing() { true; }
containers_are_confined() { true; }
workers_took_part() { rwasm list tasks --json | head -c 600; }
nothing_was_lost() { sort -u /tmp/sums.jsonl; wc -l < /tmp/sums.jsonl | grep -x 100; }
