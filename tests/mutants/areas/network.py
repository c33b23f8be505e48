"""Mutations of listeners and of secrets: proofs, tokens, addresses, limits, what is left out of records."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

STAGES, RENDEZVOUS = "tests/security/test_pipeline_strangers.py", "tests/security/test_rendezvous_strangers.py"
GATE, SHARED = "tests/security/test_port_gate.py", "tests/security/test_shared_nodes.py"
PRIVATE = "tests/security/test_private_values.py"
FRAMES = "tests/trainers/pipeline/network/test_malformed_frames.py::test_a_frame_beyond_any_message_is_refused"
REFUSED = f"{STAGES}::test_a_caller_without_the_secret_is_refused_and_the_stage_taken"

MUTATIONS = (
    Mutation(
        "every proof of the pipeline's secret is believed",
        "trainers/pipeline/network/handshake.py",
        "return hmac.compare_digest(data, proof(secret, role, greeting, nonce))",
        "return True",
        REFUSED,
    ),
    Mutation(
        "a proof holds in every role",
        "trainers/pipeline/network/handshake.py",
        'role.value + b"\\0" + greeting + nonce',
        "greeting + nonce",
        REFUSED,
    ),
    Mutation(
        "a proof holds for every greeting",
        "trainers/pipeline/network/handshake.py",
        'role.value + b"\\0" + greeting + nonce',
        'role.value + b"\\0" + nonce',
        f"{STAGES}::test_a_proof_holds_in_its_role_and_for_its_nonces_only",
    ),
    Mutation(
        "a stage takes any rank for its neighbour",
        "trainers/pipeline/network/handshake.py",
        'return (protocol.rstrip(b"\\0"), sender, receiver) == (PROTOCOL, caller, listener)',
        "return True",
        f"{STAGES}::test_another_rank_with_the_secret_is_not_taken_for_the_neighbour",
    ),
    Mutation(
        "a stage listens on every address",
        "trainers/pipeline/network/listener.py",
        "socket.create_server((host, 0), backlog=MOST_CALLERS)",
        'socket.create_server(("", 0), backlog=MOST_CALLERS)',
        f"{STAGES}::test_a_stage_listens_on_the_address_of_its_network_only",
    ),
    Mutation(
        "network.interface is ignored where it has no address",
        "trainers/pipeline/network/listener.py",
        "if interface and not address:",
        "if False:",
        f"{STAGES}::test_a_network_interface_without_an_address_is_refused_with_its_name",
    ),
    Mutation(
        "a frame of any size is allocated",
        "trainers/pipeline/network/frames.py",
        "if dtype.hasobject or size > MOST_BYTES:",
        "if dtype.hasobject:",
        f"{FRAMES}[overflow]",
    ),
    Mutation(
        "a frame may hold objects",
        "trainers/pipeline/network/frames.py",
        "if dtype.hasobject or size > MOST_BYTES:",
        "if size > MOST_BYTES:",
        f"{FRAMES}[objects]",
    ),
    Mutation(
        "TensorFlow's port takes connections from any network",
        "runs/tf_cluster/port_gate.py",
        "    refuse = (_RETURN, 0, 0, _GATE)",
        "    refuse = (_RETURN, 0, 0, _SERVER)",
        f"{GATE}::test_the_nodes_of_the_run_pass_and_nobody_else",
    ),
    Mutation(
        "TensorFlow's port takes connections from the network of a node",
        "runs/tf_cluster/port_gate.py",
        "        four += _from_ipv4(network)",
        "        four += _from_ipv4(network.supernet(new_prefix=8))",
        f"{GATE}::test_the_nodes_of_the_run_pass_and_nobody_else",
    ),
    Mutation(
        "multi_worker starts where others are at work",
        "launcher/plan/shared_node.py",
        "    if in_allocation:",
        "    if True:",
        f"{SHARED}::test_on_a_machine_with_other_users_multi_worker_is_refused_outside_an_allocation",
    ),
    Mutation(
        "multi_worker is submitted to a part of a node",
        "slurm/submission/resource_request.py",
        'if cluster.network.shared_nodes == "refuse" and exposes_ports',
        'if cluster.network.shared_nodes == "warn" and exposes_ports',
        f"{SHARED}::test_multi_worker_on_a_part_of_a_node_is_refused_before_anything_starts",
    ),
    Mutation(
        "a private value stands in the experiment",
        "configs/private_values.py",
        "return not variable.startswith(_PUBLIC_FAMILIES) or",
        "return",
        f"{PRIVATE}::test_a_value_is_kept_in_a_file_of_its_owner_only",
    ),
    Mutation(
        "private values are readable",
        "runs/private_values.py",
        "**values}}, private=True)",
        "**values}})",
        f"{PRIVATE}::test_a_value_is_kept_in_a_file_of_its_owner_only",
    ),
    Mutation(
        "a secret is taken from a file that others read",
        "runs/private_values.py",
        "if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):",
        "if False:",
        f"{PRIVATE}::test_a_reference_to_a_file_is_read_at_the_start_unless_others_can_read_it",
    ),
    Mutation(
        "Horovod's rendezvous serves requests without the token",
        "trainers/rendezvous.py",
        'if not hmac.compare_digest(given.partition(":")[0].encode(errors="replace"), token.encode()):',
        "if False:",
        f"{RENDEZVOUS}::test_a_stranger_neither_reads_nor_replaces_nor_deletes_the_address_of_a_rank",
    ),
    Mutation(
        "secrets reach the log of commands",
        "runs/commands.py",
        "without_secrets([os.fspath(word) for word in command])",
        "[os.fspath(word) for word in command]",
        "tests/runs/test_commands.py::test_secrets_stay_out_of_the_log",
    ),
)
