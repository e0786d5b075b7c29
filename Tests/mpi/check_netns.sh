#!/bin/bash
# Ranks on two hosts: network namespaces with a cable between them. check_netns.sh TEST_MPI BENCHMARK
set -euo pipefail
test_mpi=$(realpath "$1") benchmark=$(realpath "$2")
scratch=$(mktemp -d)
one=pente-one-$$ two=pente-two-$$
trap 'ip netns del $one 2> /dev/null; ip netns del $two 2> /dev/null; rm -rf "$scratch"' EXIT

skip() {
    echo "check-netns: skipped: $1"
    exit 0
}
mpirun --version 2>&1 | grep -q "Open MPI" || skip "mpirun is not Open MPI's"
command -v ip > /dev/null || skip "there is no ip command"
ip netns add $one 2> "$scratch/why" || skip "no network namespace can be made: $(cat "$scratch/why")"
ip netns add $two
ip link add pente-a netns $one type veth peer name pente-b netns $two 2> "$scratch/why" || skip "no veth: $(cat "$scratch/why")"
ip -n $one addr add 10.77.0.1/24 dev pente-a
ip -n $two addr add 10.77.0.2/24 dev pente-b
for namespace in $one $two; do ip -n $namespace link set lo up; done
ip -n $one link set pente-a up
ip -n $two link set pente-b up

# In the place of ssh: AGENT HOST COMMAND...
printf '#!/bin/bash\nshift\nexec ip netns exec %s bash -c "$*"\n' $two > "$scratch/agent"
chmod +x "$scratch/agent"
across=(ip netns exec $one mpirun --allow-run-as-root --mca plm_rsh_agent "$scratch/agent" --mca btl "tcp,self"
        --mca oob_tcp_if_include 10.77.0.0/24 --mca btl_tcp_if_include 10.77.0.0/24 --host 10.77.0.1:1,10.77.0.2:1 -n 2)
"${across[@]}" bash -c 'ip -4 -o addr show scope global' | grep -o "10.77.0.[12]/" | sort -u | wc -l | grep -q 2
for scenario in follow fit errors; do
    timeout 120 "${across[@]}" "$test_mpi" $scenario | tail -1
done
timeout 300 "${across[@]}" "$benchmark" 1000000 5
echo "check-netns: two hosts, over TCP"
