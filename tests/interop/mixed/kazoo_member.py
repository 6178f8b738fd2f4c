"""A member of a mixed fleet that is kazoo: see README.md in the folder above.

    kazoo_member.py lock|election SERVERS PATH NAME
"""

import os
import sys
import threading
import time

from kazoo.client import KazooClient

SESSION_TIMEOUT_S = 2.0


def say(word):
    print(word, flush=True)


class OfLock:
    def __init__(self, client, path, name):
        self.lock = client.Lock(path, name)

    def acquire(self):
        self.lock.acquire()

    def release(self):
        self.lock.release()

    def line(self):
        return self.lock.contenders()


class OfElection:
    """An election runs a function as long as it leads: here, until it is to resign."""

    def __init__(self, client, path, name):
        self.election = client.Election(path, name)

    def acquire(self):
        leads, self.resigns = threading.Event(), threading.Event()

        def lead():
            leads.set()
            self.resigns.wait()

        self.campaign = threading.Thread(target=self.election.run, args=(lead,))
        self.campaign.start()
        leads.wait()

    def release(self):
        self.resigns.set()
        self.campaign.join()

    def line(self):
        return self.election.contenders()


def take_turns(recipe, count, folder):
    """Nobody else is in the folder as long as it holds."""
    inside = os.path.join(folder, "inside")
    for _ in range(count):
        recipe.acquire()
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        time.sleep(0.005)
        os.remove(inside)
        recipe.release()


def main():
    kind, servers, path, name = sys.argv[1:]
    client = KazooClient(servers, timeout=SESSION_TIMEOUT_S)
    client.start(timeout=60)
    recipe = {"lock": OfLock, "election": OfElection}[kind](client, path, name)
    say("ready")
    for command in sys.stdin:
        word, *arguments = command.split()
        if word == "acquire":
            recipe.acquire()
            say("held")
        elif word == "release":
            recipe.release()
            say("released")
        elif word == "turns":
            take_turns(recipe, int(arguments[0]), arguments[1])
            say("done")
        elif word == "line":
            say(" ".join(["line", *recipe.line()]))
        else:
            sys.exit(f"not a command: {command!r}")
    client.stop()


if __name__ == "__main__":
    main()
