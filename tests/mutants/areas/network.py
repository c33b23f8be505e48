"""Mutations of listeners and of secrets: proofs, tokens, addresses, limits, what is left out of records."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

STAGES, RENDEZVOUS = "tests/security/test_pipeline_strangers.py", "tests/security/test_rendezvous_strangers.py"
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
        f"{STAGES}::test_a_malformed_frame_is_told_to_who_waits_for_the_stage[size]",
    ),
    Mutation(
        "a frame may hold objects",
        "trainers/pipeline/network/frames.py",
        "if dtype.hasobject or size > MOST_BYTES:",
        "if size > MOST_BYTES:",
        f"{STAGES}::test_a_malformed_frame_is_told_to_who_waits_for_the_stage[objects]",
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
