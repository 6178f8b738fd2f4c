"""What a client is promised when its server goes and comes back: nothing is lost."""

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
        outage(self.cluster[0])
        assert reconnected.wait(15)
        assert self.client.client_id == session
        assert self.client.get("/kept")[0] == b"data"
        assert self.client.exists("/alive").ephemeralOwner == session[0]

    def test_data_and_session_outlive_a_restart(self):
        self.after(lambda server: server.restart())

    def test_data_and_session_outlive_a_kill(self):
        def kill_and_run(server):
            server.kill()
            server.run()
            server.wait_until_ready()

        self.after(kill_and_run)
