# What tools/test-docker.sh looks at between the commands of docs/docker.md. Sourced into the shell that runs them.

set -o pipefail

# eventually SECONDS COMMAND…: until it succeeds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "not in time: $*"; "$@"; return 1; }
        sleep 0.3
    done
}

# expect WHAT WANTED FOUND
expect() {
    [ "$2" = "$3" ] || { echo "$1: wanted '$2', found '$3'"; return 1; }
}

# query EXPRESSION: the first value that Prometheus has for it.
query() {
    curl -sf -G http://localhost:9090/api/v1/query --data-urlencode "query=$1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["result"][0]["value"][1])'
}

prometheus_says() {
    expect "$1" "$2" "$(query "$1")"
}

containers_are_confined() {
    local container pid
    for container in rwasm-head rwasm-worker-1 rwasm-worker-2; do
        pid=$(docker inspect --format '{{.State.Pid}}' $container) || return
        expect "$container is the image's user" 65532 "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" || return
        expect "$container has capabilities" 0000000000000000 "$(awk '/^CapEff:/ { print $2 }' "/proc/$pid/status")" || return
        expect "$container may gain rights" 1 "$(awk '/^NoNewPrivs:/ { print $2 }' "/proc/$pid/status")" || return
        expect "$container has a root that is read-only" true "$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}}' $container)" || return
        docker inspect --format '{{json .NetworkSettings.Networks}}' $container | grep -q '"rwasm_cluster"' || return
    done
    expect "what is published" "10001/tcp -> 127.0.0.1:10001 8265/tcp -> 127.0.0.1:8265" "$(docker port rwasm-head | sort | paste -sd' ')" &&
        expect "what workers publish" "" "$(docker port rwasm-worker-1)" &&
        ! curl -s --max-time 2 telnet://localhost:6379 </dev/null
}

nothing_was_lost() {
    expect "results" 100 "$(wc -l </tmp/sums.jsonl)" && expect "different results" 1 "$(sort -u /tmp/sums.jsonl | wc -l)" &&
        expect "the worker" exited "$(docker inspect --format '{{.State.Status}}' rwasm-worker-2)" &&
        rwasm list tasks --json >/tmp/tasks.json && grep -q . /tmp/tasks.json
}

prometheus_knows_all() {
    eventually 60 prometheus_says 'count(up == 1)' 4 && eventually 60 prometheus_says 'sum(rwasm_cluster_nodes{state="alive"})' 4 &&
        prometheus_says 'count(up)' 4
}

dashboards_have_data() {
    rwasm submit ../target/guests/hello.wasm --call 'add(1, 2)' >/dev/null &&
        eventually 90 python3 ../tools/check-dashboards.py grafana/dashboards/*.json --prometheus http://localhost:9090 &&
        python3 ../tools/check-dashboards.py grafana/dashboards/*.json --prometheus http://localhost:9090
}

a_small_container_is_not_killed() {
    local task
    # More slots than it has cores, so that guests meet.
    docker run -d --name rwasm-crowded --memory 512m rwasm start --head --block --num-cpus 4 >/dev/null &&
        eventually 30 docker exec rwasm-crowded rwasm health || return
    for container in rwasm-small rwasm-crowded; do
        local pid
        pid=$(docker inspect --format '{{.State.Pid}}' $container)
        inside() { docker exec -i $container rwasm "$@"; }
        inside artifact tag /proc/self/fd/0 evil:1 <../target/guests/evil-compute.wasm || return
        # Within the limit of a task, 512 MiB, and more than the node gives; four at once would be more than the container has.
        inside submit evil:1 --call 'fill-memory(450, 1)' >/tmp/fill 2>&1
        grep RW0722 /tmp/fill || { cat /tmp/fill; return 1; }
        for task in 1 2 3 4 5 6 7 8; do echo '[200, 20]'; done | inside submit evil:1 --map - --func fill-memory >/tmp/fill 2>&1
        tail -1 /tmp/fill
        # Compiling this takes gigabytes; the child that does it is what ends.
        inside submit /proc/self/fd/0 --call 'one()' <../target/guests/evil-compile-bomb.wasm >/tmp/bomb 2>&1
        tail -1 /tmp/bomb
        inside submit evil:1 --call 'work(1000)' &&
            expect "the process" "$pid running" "$(docker inspect --format '{{.State.Pid}} {{.State.Status}}' $container)" || return
    done
    grep -q 'RW0722' /tmp/fill || { echo "guests that met took less than they could"; return 1; }
    docker rm -f -v rwasm-crowded >/dev/null
}

secrets_are_taken() {
    (
        export COMPOSE_FILE=$COMPOSE_FILE:$PWD/compose.secrets.yaml RWASM_TOKEN_FILE=$PWD/secrets/admin-token
        unset RWASM_TOKEN
        docker compose up -d --wait --scale worker=3 >/dev/null 2>&1 || { docker compose up -d; docker logs --tail 5 rwasm-head; exit 1; }
        rwasm token create --role viewer >/dev/null && eventually 30 all_are_back
    )
}

# The head was made anew, and its workers dial it.
all_are_back() {
    expect "nodes alive" 4 "$(rwasm list nodes --json | python3 -c 'import json, sys; print(sum(row["alive"] for row in json.load(sys.stdin)["rows"]))')"
}

on_failure() {
    docker ps -a
    local container
    for container in $(docker ps -aq); do
        echo "--- $(docker inspect --format '{{.Name}} {{.State.Status}} killed for memory: {{.State.OOMKilled}}' "$container")"
        docker logs --tail 15 "$container" 2>&1
    done
}
