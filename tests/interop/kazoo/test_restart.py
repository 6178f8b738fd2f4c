"""What a client is promised when all servers go and come back: nothing is lost."""

from kazoo.retry import KazooRetry
from kazoo.testing import KazooTestCase


class TestRestart(KazooTestCase):
    def after(self, outage):
        """What there is after the outage of what was there before it."""
        self.client.create("/kept", b"data")
        self.client.create("/alive", ephemeral=True)
        session = self.client.client_id
        outage(self.cluster)
        # Until it is answered, however often the connection broke: the client may have been
        # connected in between, to a server that was to go too.
        kept, _ = KazooRetry(max_tries=-1, max_delay=1, deadline=15)(self.client.get, "/kept")
        assert kept == b"data"
        assert self.client.client_id == session
        assert self.client.exists("/alive").ephemeralOwner == session[0]

    def test_data_and_session_outlive_a_restart(self):
        def restart(cluster):
            cluster.stop()
            cluster.start()

        self.after(restart)

    def test_data_and_session_outlive_a_kill(self):
        def kill_and_start(cluster):
            cluster.kill()
            cluster.start()

        self.after(kill_and_start)
