import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.Participant;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryForever;

/**
 * A member of a mixed fleet that is Curator: see README.md in the folder above.
 *
 * <pre>CuratorMember lock|election SERVERS PATH NAME</pre>
 */
public final class CuratorMember {
    private static final int SESSION_TIMEOUT_MS = 2_000;
    private static final int CONNECTION_TIMEOUT_MS = 15_000;
    private static final int RETRY_MS = 50;

    private interface Recipe {
        void acquire() throws Exception;

        void release() throws Exception;

        /** Who holds, and who waits, in their order. */
        List<String> line() throws Exception;
    }

    private static final class OfLock implements Recipe {
        private final CuratorFramework client;
        private final InterProcessMutex mutex;

        OfLock(CuratorFramework client, String path) {
            this.client = client;
            mutex = new InterProcessMutex(client, path);
        }

        @Override
        public void acquire() throws Exception {
            mutex.acquire();
        }

        @Override
        public void release() throws Exception {
            mutex.release();
        }

        @Override
        public List<String> line() throws Exception {
            List<String> names = new ArrayList<>();
            for (String znode : mutex.getParticipantNodes()) {
                names.add(new String(client.getData().forPath(znode)));
            }
            return names;
        }
    }

    private static final class OfElection implements Recipe {
        private final CuratorFramework client;
        private final String path;
        private final String name;
        private LeaderLatch latch;

        OfElection(CuratorFramework client, String path, String name) {
            this.client = client;
            this.path = path;
            this.name = name;
        }

        @Override
        public void acquire() throws Exception {
            latch = new LeaderLatch(client, path, name);
            latch.start();
            latch.await();
        }

        @Override
        public void release() throws Exception {
            latch.close();
        }

        @Override
        public List<String> line() throws Exception {
            List<String> names = new ArrayList<>();
            for (Participant participant : new LeaderLatch(client, path).getParticipants()) {
                names.add(participant.getId());
            }
            return names;
        }
    }

    /** Nobody else is in the folder as long as it holds. */
    private static void takeTurns(Recipe recipe, int count, Path folder) throws Exception {
        Path inside = folder.resolve("inside");
        for (int turn = 0; turn < count; turn++) {
            recipe.acquire();
            Files.createFile(inside);
            Thread.sleep(5);
            Files.delete(inside);
            recipe.release();
        }
    }

    private static void say(String word) {
        System.out.println(word);
        System.out.flush();
    }

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[1];
        String path = arguments[2];
        CuratorFramework client = CuratorFrameworkFactory.newClient(
                servers, SESSION_TIMEOUT_MS, CONNECTION_TIMEOUT_MS, new RetryForever(RETRY_MS));
        client.start();
        client.blockUntilConnected();
        Recipe recipe = arguments[0].equals("lock")
                ? new OfLock(client, path)
                : new OfElection(client, path, arguments[3]);
        say("ready");
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String command = commands.readLine(); command != null; command = commands.readLine()) {
            String[] words = command.split(" ");
            switch (words[0]) {
                case "acquire":
                    recipe.acquire();
                    say("held");
                    break;
                case "release":
                    recipe.release();
                    say("released");
                    break;
                case "turns":
                    takeTurns(recipe, Integer.parseInt(words[1]), Path.of(words[2]));
                    say("done");
                    break;
                case "line":
                    say(("line " + String.join(" ", recipe.line())).trim());
                    break;
                default:
                    throw new IllegalArgumentException("not a command: " + command);
            }
        }
        client.close();
    }
}
