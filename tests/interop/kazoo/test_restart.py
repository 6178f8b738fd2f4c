"""What a client is promised when all servers go and come back: nothing is lost."""

from kazoo.protocol.states import KazooState
from kazoo.testing import KazooTestCase


class TestRestart(KazooTestCase):
    def after(self, outage):
        """What there is after the outage of what was there before it."""
        self.client.create("/kept", b"data")
        self.client.create("/alive", ephemeral=True)
        session = self.client.client_id
        reconnected = self.client.handler.event_object()
        self.client.add_listener(lambda state: state == KazooState.CONNECTED and reconnected.set())
        outage(self.cluster)
        assert reconnected.wait(15)
        assert self.client.client_id == session
        assert self.client.get("/kept")[0] == b"data"
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
