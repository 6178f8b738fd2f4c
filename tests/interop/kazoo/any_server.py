"""Pytest plugin: kazoo's own tests, unmodified, against any ZooKeeper server.

kazoo's test harness starts Apache ZooKeeper through the module kazoo.testing.common. This
plugin puts a module of its own in that place; its servers are processes of --server-command.
"""

import faulthandler
import logging
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import types

import pytest

HOST = "127.0.0.1"
PORTS = range(21000, 30000, 50)  # below those that the system gives to clients
START_S = 30
STOP_S = 10
HANG_S = 120  # pytest's timeout ends a test before, but not one that hangs in its tearDown
LOG_LINES = 100
OUTCOMES = ["passed", "excepted", "skipped", "failed"]  # the worst last
# Tests that lose a race within kazoo now and then, whatever the server: they may be run again. Here
# `start` tells of a refusal only if its thread wakes between the session and the refusal.
RACING = {
    "test_sasl.py::TestLegacySASLDigestAuthentication::test_invalid_sasl_auth",
    "test_sasl.py::TestSASLDigestAuthentication::test_invalid_sasl_auth",
}
RERUNS = 5
SASL_USER = ("jaasuser", "jaas_password")  # as in kazoo's own harness
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # super:test, what kazoo's tests log in with


def receive(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def serves(address):
    """Whether a session can be opened, and closed again."""
    try:
        with socket.create_connection(address, 1) as sock:
            connect = struct.pack(">iqiqi16sb", 0, 0, 4000, 0, 16, b"", 0)
            close = struct.pack(">ii", 1, -11)
            sock.sendall(struct.pack(">i", len(connect)) + connect)
            reply = receive(sock, *struct.unpack(">i", receive(sock, 4)))
            _, timeout_ms, session = struct.unpack_from(">iiq", reply)
            sock.sendall(struct.pack(">i", len(close)) + close)
            receive(sock, *struct.unpack(">i", receive(sock, 4)))
            return timeout_ms > 0 and session != 0
    except (OSError, struct.error):
        return False


def leads(address):
    """Whether the server says so. It says nothing while it starts."""
    try:
        with socket.create_connection(address, 1) as sock:
            sock.sendall(b"srvr")
            answer = b""
            while part := sock.recv(4096):
                answer += part
            return b"Mode: leader" in answer
    except OSError:
        return False


def claim_ports(count):
    """`count` free ports in a row, and the socket that holds the port before them for us."""
    for claimed in random.sample(PORTS, len(PORTS)):
        ports = range(claimed + 1, claimed + 1 + count)
        claim = socket.socket()
        try:
            claim.bind((HOST, claimed))
            claim.listen()
            for port in ports:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, port))
            return ports, claim
        except OSError:
            claim.close()
    raise RuntimeError(f"no {count} free ports in a row in {PORTS}")


def make_certificates(directory):
    """A certificate authority, and a server and a client that it signed."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-subj", "/CN=ca", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
    (directory / "names").write_text(f"subjectAltName=DNS:localhost,IP:{HOST}\n")
    for name in ("server", "client"):
        openssl("req", *key, "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", name + ".crt")
        pem = (directory / (name + ".key")).read_text() + (directory / (name + ".crt")).read_text()
        (directory / (name + ".pem")).write_text(pem)


def write_users(directory):
    """The user that proves itself by SASL, for servers of either kind."""
    name, password = SASL_USER
    users = directory / "sasl-users"
    users.touch(mode=0o600)
    users.write_text(f"{name}:{password}\n")
    (directory / "jaas.conf").write_text(
        "Server {\n    org.apache.zookeeper.server.auth.DigestLoginModule required\n"
        f'    user_{name}="{password}";\n}};\n')


class Server:
    """What kazoo's harness and tests use of its ManagedZooKeeper, and kill and restart."""

    def __init__(self, server_id, size, port, secure_port, peers):
        self.address = f"{HOST}:{port}"
        self.secure_address = f"{HOST}:{secure_port}"
        self.port = port
        self.data = RUN.work / f"data-{server_id}"
        self.log = RUN.work / f"server-{server_id}.log"
        self.process = None
        self.environment = {
            **os.environ,
            "ZKT_SERVER_ID": str(server_id),
            "ZKT_SIZE": str(size),
            "ZKT_PORT": str(port),
            "ZKT_SECURE_PORT": str(secure_port),
            "ZKT_PEERS": peers,
            "ZKT_DATA_DIR": str(self.data),
            "ZKT_TLS_DIR": str(RUN.work),
            "ZKT_SASL_USERS": str(RUN.work / "sasl-users"),
            "ZKT_JAAS": str(RUN.work / "jaas.conf"),
            "ZKT_SUPER_DIGEST": SUPER_DIGEST,
        }

    @property
    def running(self):
        if self.process is not None and self.process.poll() is not None:
            RUN.complain(f"the server ended by itself, with status {self.process.returncode}")
            self.process = None
        return self.process is not None

    def run(self):
        if self.running:
            return
        with open(self.log, "ab") as log:
            log.write(f"==> started for {RUN.test}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                shlex.split(RUN.command), env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_ready(self):
        give_up = time.monotonic() + START_S
        while not serves((HOST, self.port)):
            if not self.running or time.monotonic() > give_up:
                raise RuntimeError("no server:\n" + "".join(self.get_logs()))
            time.sleep(0.01)

    def stop(self):
        if not self.running:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            RUN.complain(f"the server did not stop within {STOP_S} s of SIGTERM")
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self):
        if self.running:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self):
        self.stop()
        self.run()
        self.wait_until_ready()

    def destroy(self):
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def get_logs(self):
        return self.log.read_text(errors="replace").splitlines(True)[-LOG_LINES:]


class Cluster:
    """What kazoo's harness and tests use of its ZookeeperCluster; made with the same arguments."""

    def __init__(self, size, **_):
        ports, self.claim = claim_ports(3 * size)
        peers = ",".join(f"{i + 1}={HOST}:{ports[2 * size + i]}" for i in range(size))
        self.servers = [
            Server(i + 1, size, ports[2 * i], ports[2 * i + 1], peers) for i in range(size)
        ]
        make_certificates(RUN.work)
        write_users(RUN.work)
        RUN.cluster = self

    def __getitem__(self, index):
        return self.servers[index]

    def __iter__(self):
        return iter(self.servers)

    def start(self):
        for server in self.servers:
            server.run()
        for server in self.servers:
            server.wait_until_ready()

    def stop(self):
        for server in self.servers:
            server.stop()

    def kill(self):
        for server in self.servers:
            server.kill()

    def kill_leader(self):
        """Kills the one that leads, and starts it again when the others have served."""
        give_up = time.monotonic() + START_S
        leader = None
        while leader is None:
            if time.monotonic() > give_up:
                raise RuntimeError("no server leads:\n" + "".join(self.get_logs()))
            leader = next((it for it in self.servers if leads((HOST, it.port))), None)
        leader.kill()
        for server in self.servers:
            if server is not leader:
                server.wait_until_ready()
        leader.run()
        leader.wait_until_ready()
        RUN.kills += 1

    def terminate(self):
        """kazoo's harness calls it after each class, so that each starts on an empty server."""
        for server in self.servers:
            server.destroy()

    def get_logs(self):
        return [line for server in self.servers for line in server.get_logs()]

    def get_ssl_client_configuration(self):
        files = {"client_key": "client.key", "client_cert": "client.crt", "ca_cert": "ca.pem"}
        return {name: (RUN.work / file).read_bytes() for name, file in files.items()}


class Run:
    """The options, and what the tests came to."""

    def __init__(self, config):
        self.command = config.getoption("--server-command")
        self.work = pathlib.Path(config.getoption("--work"))
        self.record = config.getoption("--record")
        self.test = "nothing"
        self.outcomes = {}  # test: one of OUTCOMES
        self.seconds = {}  # test: all phases
        self.complaints = []
        self.left_out = 0
        self.begun = 0
        self.kills = 0
        self.kill_leader_every = config.getoption("--kill-leader-every")
        self.cluster = None
        self.status = 1
        self.watchdog = None
        self.config = config
        here = pathlib.Path(__file__).parent
        # Tests asked for by name say nothing of those that were not.
        self.whole = not any("::" in argument for argument in config.args)
        self.expected = set()
        self.exceptions = {}  # test: reason
        if not self.record:
            self.expected = listed(here / "expected.txt")
            if config.getoption("--size") > 1:
                self.expected |= listed(here / "expected_three.txt")
            excepted = config.getoption("--exceptions")
            if excepted:
                text = (here / excepted).read_text()
                self.exceptions = dict(re.findall(r"^- `(.+)`: (\S.*)$", text, re.M))
        if self.work.exists():
            shutil.rmtree(self.work)
        self.work.mkdir(parents=True)

    def complain(self, text):
        self.complaints.append(f"{self.test}: {text}")


RUN = None


def listed(file):
    return {line for line in file.read_text().splitlines() if line and not line.startswith("#")}


def name(nodeid):
    """test_lock.py::KazooLockTests::test_lock, whatever folder the file is in."""
    path, separator, test = nodeid.partition("::")
    return path.rsplit("/", 1)[-1] + separator + test


def pytest_addoption(parser):
    group = parser.getgroup("any_server")
    group.addoption("--server-command", required=True, help="runs one server in the foreground")
    group.addoption("--work", required=True, help="folder for data and logs, emptied first")
    group.addoption("--size", default=1, type=int, help="how many servers there are")
    group.addoption("--kill-leader-every", default=0, type=int,
                    help="before each test of so many the leader is killed, and started again")
    group.addoption("--exceptions", help="file of the tests that are expected to fail")
    group.addoption("--record", help="run every test, and write those that pass to this file")


def pytest_configure(config):
    global RUN
    RUN = Run(config)
    module = types.ModuleType("kazoo.testing.common")
    module.ZookeeperCluster = Cluster
    sys.modules["kazoo.testing.common"] = module
    os.environ["ZOOKEEPER_CLUSTER_SIZE"] = str(config.getoption("--size"))
    os.environ["ZOOKEEPER_VERSION"] = "3.8.0"  # the harness wants one; it picks nothing of ours by it
    # With CI set kazoo's tests believe that version; without, they ask the server for its own.
    os.environ.pop("CI", None)
    # Clients that tests left open log to nobody when all is over.
    logging.lastResort = logging.NullHandler()
    # So that a session ends as it should, which stops the servers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if RUN.record:
        return
    collected = {name(item.nodeid) for item in items}
    files = {test.split("::")[0] for test in collected}
    if RUN.whole:
        for test in sorted(RUN.expected - collected):
            if test.split("::")[0] in files:
                RUN.complaints.append(f"{test}: is expected, and is not there")
        for test in sorted(RUN.exceptions.keys() - RUN.expected):
            RUN.complaints.append(f"{test}: is an exception, and is not expected anyway")
    left_out = [item for item in items if name(item.nodeid) not in RUN.expected]
    RUN.left_out = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if name(item.nodeid) in RUN.expected]
    for item in items:
        reason = RUN.exceptions.get(name(item.nodeid))
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        if name(item.nodeid) in RACING:
            item.add_marker(pytest.mark.flaky(reruns=RERUNS))


def pytest_runtest_logstart(nodeid):
    RUN.test = name(nodeid)
    RUN.watchdog = threading.Timer(HANG_S, give_up)
    RUN.watchdog.daemon = True
    RUN.watchdog.start()
    RUN.begun += 1
    every = RUN.kill_leader_every
    # Between two classes no server runs.
    if every and RUN.begun % every == 0 and RUN.cluster and all(it.running for it in RUN.cluster):
        RUN.cluster.kill_leader()


def pytest_runtest_logfinish():
    RUN.watchdog.cancel()


def give_up():
    """Ends the run in a test that does not end; what came before it is reported."""
    with open(RUN.work / "stacks.txt", "w") as stacks:
        faulthandler.dump_traceback(stacks)
    RUN.complain(f"not over after {HANG_S} s; the rest did not run; where it hangs is in {stacks.name}")
    RUN.config.pluginmanager.get_plugin("capturemanager").suspend()
    terminal = RUN.config.pluginmanager.get_plugin("terminalreporter")
    terminal.summary_failures()
    pytest_terminal_summary(terminal)
    terminal.flush()
    for server in RUN.cluster or ():
        server.kill()
    os._exit(1)


def pytest_runtest_logreport(report):
    test = name(report.nodeid)
    RUN.seconds[test] = RUN.seconds.get(test, 0) + report.duration
    if report.outcome == "rerun":
        return
    outcome = "excepted" if hasattr(report, "wasxfail") else report.outcome
    RUN.outcomes[test] = max(RUN.outcomes.get(test, "passed"), outcome, key=OUTCOMES.index)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    RUN.status = int(exitstatus)
    if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return
    if RUN.record:
        session.exitstatus = RUN.status = 0
        with open(RUN.record, "w") as file:
            file.write("# The tests that pass on Apache ZooKeeper: recorded, not written by hand. See ../README.md.\n")
            file.writelines(t + "\n" for t in sorted(RUN.outcomes) if RUN.outcomes[t] == "passed")
        return
    for test in sorted(RUN.outcomes):
        if RUN.outcomes[test] not in ("passed", "excepted"):
            RUN.complaints.append(f"{test}: {RUN.outcomes[test]}")
    session.exitstatus = RUN.status = int(bool(RUN.complaints))


def pytest_terminal_summary(terminalreporter):
    write = terminalreporter.write_line
    write("")
    row = "{:24}" + "{:>10}" * len(OUTCOMES) + "{:>10}"
    write(row.format("file", *OUTCOMES, "seconds"))
    for file in sorted({test.split("::")[0] for test in RUN.outcomes}):
        tests = [test for test in RUN.outcomes if test.split("::")[0] == file]
        counts = [sum(RUN.outcomes[test] == outcome for test in tests) for outcome in OUTCOMES]
        write(row.format(file, *counts, f"{sum(RUN.seconds[test] for test in tests):.1f}"))
    if RUN.kill_leader_every:
        write(f"{RUN.kills} times the leader was killed between two tests")
    write(f"{RUN.left_out} tests are left out: they do not pass on Apache ZooKeeper")
    for complaint in RUN.complaints:
        write("NOT AS EXPECTED  " + complaint)
    if RUN.complaints:
        write(f"the servers' logs are in {RUN.work}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Stops the servers, and does not wait for threads that a failed test left waiting for ever."""
    if RUN.cluster is not None:
        RUN.cluster.terminate()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if any(not thread.daemon for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(RUN.status)
