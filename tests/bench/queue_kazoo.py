"""Kazoo's half of the bench `queue_clients`: a line of its input asks, a line of its output answers.

    put PATH FROM TO   puts these numbers, one at a time: ok
    take PATH          takes and finishes what there is, one at a time: ok MICROSECONDS NUMBER...,
                       the time until the last of its items was finished
"""

import sys
import time

from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue


def take(queue):
    begun = last = time.perf_counter()
    done = []
    while True:
        item = queue.get(timeout=1)
        if item is None:
            return [int((last - begun) * 1e6), *done]
        assert queue.consume()
        last = time.perf_counter()
        done.append(int(item))


def main():
    client = KazooClient(hosts=sys.argv[1], timeout=20.0)
    client.start()
    for asked in sys.stdin:
        what, path, *numbers = asked.split()
        queue = LockingQueue(client, path)
        done = []
        if what == "put":
            for number in range(*map(int, numbers)):
                queue.put(str(number).encode())
        else:
            done = take(queue)
        print("ok", *done, flush=True)


main()
