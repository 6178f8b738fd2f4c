"""Kazoo's half of the bench `lock_clients`: a line of its input asks, a line of its output answers.

    alone PATH LOCKS   acquires and releases so often: ok MICROSECONDS of one
    connect CLIENTS    so many clients, for what follows
    form PATH          the first one holds, the others ask for the lock, each in a thread
    dissolve           the first one releases, and so does each that it comes to: ok MICROSECONDS...
"""

import sys
import threading
import time

from kazoo.client import KazooClient


class Line:
    def __init__(self, clients, path):
        self.locks = [client.Lock(path) for client in clients]
        self.released = 0.0
        self.hand_overs = []
        assert self.locks[0].acquire()
        self.threads = [threading.Thread(target=self.wait, args=(lock,)) for lock in self.locks[1:]]
        for thread in self.threads:
            thread.start()

    def wait(self, lock):
        assert lock.acquire()
        self.hand_overs.append((time.perf_counter() - self.released) * 1e6)
        self.release(lock)

    def release(self, lock):
        self.released = time.perf_counter()
        assert lock.release()

    def dissolve(self):
        self.release(self.locks[0])
        for thread in self.threads:
            thread.join()
        return self.hand_overs


class Bench:
    def __init__(self, server):
        self.server = server
        self.single = self.client()
        self.clients = []
        self.line = None

    def client(self):
        client = KazooClient(hosts=self.server, timeout=20.0)
        client.start()
        return client

    def alone(self, path, locks):
        lock = self.single.Lock(path)
        begun = time.perf_counter()
        for _ in range(int(locks)):
            assert lock.acquire()
            assert lock.release()
        return [(time.perf_counter() - begun) * 1e6 / int(locks)]

    def connect(self, clients):
        while len(self.clients) < int(clients):
            self.clients.append(self.client())
        return []

    def form(self, path):
        self.line = Line(self.clients, path)
        return []

    def dissolve(self):
        return self.line.dissolve()


def main():
    bench = Bench(sys.argv[1])
    for asked in sys.stdin:
        what, *arguments = asked.split()
        answer = getattr(bench, what)(*arguments)
        print("ok", *answer, flush=True)


main()
