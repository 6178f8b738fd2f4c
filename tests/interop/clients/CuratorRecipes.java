import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.Stat;

/**
 * Curator's recipes, two clients at a time. Says the name of each that did what it is for, and fails
 * with the first that did not.
 *
 * <pre>CuratorRecipes SERVERS</pre>
 */
public final class CuratorRecipes {
    private static final int SESSION_TIMEOUT_MS = 10_000;
    private static final int CONNECTION_TIMEOUT_MS = 15_000;
    private static final int RETRY_MS = 50;
    private static final int RETRIES = 100;

    /** Nothing that is waited for takes longer. */
    private static final int PATIENCE_S = 60;

    /** How long somebody who must wait is watched doing so. */
    private static final int WATCHED_MS = 300;

    private final CuratorFramework ann;
    private final CuratorFramework bob;
    private final ExecutorService threads = Executors.newCachedThreadPool();

    private CuratorRecipes(String servers) {
        ann = connect(servers);
        bob = connect(servers);
    }

    private static CuratorFramework connect(String servers) {
        CuratorFramework client = CuratorFrameworkFactory.newClient(
                servers, SESSION_TIMEOUT_MS, CONNECTION_TIMEOUT_MS, new RetryForever(RETRY_MS));
        client.start();
        return client;
    }

    private interface Recipe {
        void run() throws Exception;
    }

    private static void done(String name, Recipe recipe) throws Exception {
        recipe.run();
        System.out.println(name);
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** Waits for something that is to come; there is no event for it. */
    private static void until(Callable<Boolean> holds, String what) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!holds.call()) {
            check(System.nanoTime() < end, what);
            Thread.sleep(10);
        }
    }

    private static void waits(Future<?> other, String what) throws Exception {
        Thread.sleep(WATCHED_MS);
        check(!other.isDone(), what + " does not wait");
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private <T> Future<T> start(Callable<T> task) {
        return threads.submit(task);
    }

    /** The other one may be with a member that is behind: what it asks from here on is answered later. */
    private void catchUp() throws Exception {
        bob.sync().forPath("/curator");
    }

    private static <T> T soon(Future<T> task) throws Exception {
        return task.get(PATIENCE_S, TimeUnit.SECONDS);
    }

    private void framework() throws Exception {
        Stat stat = new Stat();
        ann.create().creatingParentsIfNeeded().withMode(CreateMode.PERSISTENT)
                .forPath("/curator/framework", bytes("a"));
        String first = ann.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
                .forPath("/curator/framework/e-");
        check(first.endsWith("e-0000000000"), first);
        catchUp();
        check(bob.getData().storingStatIn(stat).forPath("/curator/framework").length == 1, "data");
        check(stat.getNumChildren() == 1, "one child");
        List<CuratorTransactionResult> results = ann.transaction().forOperations(
                ann.transactionOp().check().withVersion(0).forPath("/curator/framework"),
                ann.transactionOp().setData().forPath("/curator/framework", bytes("b")),
                ann.transactionOp().create().forPath("/curator/framework/c"),
                ann.transactionOp().delete().forPath(first));
        check(results.size() == 4 && results.get(1).getResultStat().getVersion() == 1, "a result each");
        ann.delete().guaranteed().deletingChildrenIfNeeded().forPath("/curator/framework");
        catchUp();
        check(bob.checkExists().forPath("/curator/framework") == null, "it is gone");
    }

    private void mutex() throws Exception {
        InterProcessMutex here = new InterProcessMutex(ann, "/curator/mutex");
        InterProcessMutex there = new InterProcessMutex(bob, "/curator/mutex");
        here.acquire();
        here.acquire(); // again
        Future<Boolean> other = start(() -> {
            there.acquire();
            there.release();
            return true;
        });
        here.release();
        waits(other, "who wants a mutex");
        here.release();
        check(soon(other), "the other's turn");
        List<InterProcessMutex> both =
                List.of(new InterProcessMutex(ann, "/curator/multi/a"), new InterProcessMutex(ann, "/curator/multi/b"));
        InterProcessMultiLock multi = new InterProcessMultiLock(new ArrayList<>(both));
        multi.acquire();
        InterProcessMutex part = new InterProcessMutex(bob, "/curator/multi/b");
        check(!part.acquire(WATCHED_MS, TimeUnit.MILLISECONDS), "one of both is held");
        multi.release();
        check(part.acquire(PATIENCE_S, TimeUnit.SECONDS), "it is free");
        part.release();
    }

    private void readWriteLock() throws Exception {
        InterProcessReadWriteLock here = new InterProcessReadWriteLock(ann, "/curator/rw");
        InterProcessReadWriteLock there = new InterProcessReadWriteLock(bob, "/curator/rw");
        here.readLock().acquire();
        check(there.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "two read");
        there.readLock().release();
        check(!there.writeLock().acquire(WATCHED_MS, TimeUnit.MILLISECONDS), "nobody writes");
        here.readLock().release();
        check(there.writeLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "one writes");
        check(!here.readLock().acquire(WATCHED_MS, TimeUnit.MILLISECONDS), "nobody reads");
        there.writeLock().release();
    }

    private void semaphore() throws Exception {
        InterProcessSemaphoreV2 here = new InterProcessSemaphoreV2(ann, "/curator/semaphore", 2);
        InterProcessSemaphoreV2 there = new InterProcessSemaphoreV2(bob, "/curator/semaphore", 2);
        Lease first = here.acquire();
        Lease second = there.acquire(PATIENCE_S, TimeUnit.SECONDS);
        check(there.acquire(WATCHED_MS, TimeUnit.MILLISECONDS) == null, "there are two");
        here.returnLease(first);
        Lease third = there.acquire(PATIENCE_S, TimeUnit.SECONDS);
        check(third != null, "one came back");
        there.returnLease(second);
        there.returnLease(third);
    }

    private void leaderLatch() throws Exception {
        LeaderLatch here = new LeaderLatch(ann, "/curator/latch", "ann");
        LeaderLatch there = new LeaderLatch(bob, "/curator/latch", "bob");
        here.start();
        check(here.await(PATIENCE_S, TimeUnit.SECONDS), "the only one leads");
        there.start();
        until(() -> there.getParticipants().size() == 2, "two take part");
        check(!there.hasLeadership() && there.getLeader().getId().equals("ann"), "one leads");
        here.close();
        check(there.await(PATIENCE_S, TimeUnit.SECONDS), "the next one leads");
        there.close();
    }

    private void leaderSelector() throws Exception {
        BlockingQueue<String> led = new LinkedBlockingQueue<>();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (CuratorFramework client : List.of(ann, bob)) {
            String name = client == ann ? "ann" : "bob";
            LeaderSelector selector = new LeaderSelector(client, "/curator/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework ignored) {
                    led.add(name);
                }
            });
            selector.autoRequeue();
            selectors.add(selector);
        }
        selectors.forEach(LeaderSelector::start);
        List<String> seen = new ArrayList<>();
        while (!seen.containsAll(List.of("ann", "bob"))) {
            String name = led.poll(PATIENCE_S, TimeUnit.SECONDS);
            check(name != null, "somebody leads");
            seen.add(name);
        }
        selectors.forEach(LeaderSelector::close);
    }

    private void barriers() throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(ann, "/curator/barrier");
        barrier.setBarrier();
        catchUp();
        Future<Boolean> passed =
                start(() -> new DistributedBarrier(bob, "/curator/barrier").waitOnBarrier(PATIENCE_S, TimeUnit.SECONDS));
        waits(passed, "who comes to a barrier");
        barrier.removeBarrier();
        check(soon(passed), "it is passed");
        DistributedDoubleBarrier here = new DistributedDoubleBarrier(ann, "/curator/double", 2);
        DistributedDoubleBarrier there = new DistributedDoubleBarrier(bob, "/curator/double", 2);
        Future<Boolean> entered = start(() -> here.enter(PATIENCE_S, TimeUnit.SECONDS));
        waits(entered, "who comes alone");
        check(there.enter(PATIENCE_S, TimeUnit.SECONDS) && soon(entered), "both enter");
        Future<Boolean> left = start(() -> here.leave(PATIENCE_S, TimeUnit.SECONDS));
        check(there.leave(PATIENCE_S, TimeUnit.SECONDS) && soon(left), "both leave");
    }

    private void counters() throws Exception {
        SharedCount here = new SharedCount(ann, "/curator/count", 5);
        SharedCount there = new SharedCount(bob, "/curator/count", 5);
        here.start();
        there.start();
        here.setCount(6);
        until(() -> there.getCount() == 6, "the other one sees it");
        check(there.trySetCount(there.getVersionedValue(), 7), "over the version that it knows");
        here.close();
        there.close();
        List<Future<Boolean>> adding = new ArrayList<>();
        for (CuratorFramework client : List.of(ann, bob)) {
            adding.add(start(() -> {
                DistributedAtomicLong number =
                        new DistributedAtomicLong(client, "/curator/long", new RetryNTimes(RETRIES, RETRY_MS));
                for (int i = 0; i < 50; i++) {
                    AtomicValue<Long> added = number.increment();
                    check(added.succeeded(), "it is added");
                }
                return true;
            }));
        }
        for (Future<Boolean> task : adding) {
            check(soon(task), "all are added");
        }
        long sum = new DistributedAtomicLong(ann, "/curator/long", new RetryNTimes(RETRIES, RETRY_MS)).get().postValue();
        check(sum == 100, "the sum is " + sum);
    }

    private static final class Text implements QueueSerializer<String> {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] data) {
            return new String(data, StandardCharsets.UTF_8);
        }
    }

    private static QueueConsumer<String> into(BlockingQueue<String> taken) {
        return new QueueConsumer<String>() {
            @Override
            public void consumeMessage(String item) {
                taken.add(item);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
            }
        };
    }

    private void queues() throws Exception {
        BlockingQueue<String> taken = new LinkedBlockingQueue<>();
        DistributedQueue<String> putting = QueueBuilder.builder(ann, null, new Text(), "/curator/queue").buildQueue();
        DistributedQueue<String> taking = QueueBuilder.builder(bob, into(taken), new Text(), "/curator/queue")
                .lockPath("/curator/queue-locks").buildQueue();
        putting.start();
        taking.start();
        for (int i = 0; i < 20; i++) {
            putting.put("item " + i);
        }
        List<String> items = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            String item = taken.poll(PATIENCE_S, TimeUnit.SECONDS);
            check(item != null && !items.contains(item), "each once: " + item);
            items.add(item);
        }
        putting.close();
        taking.close();
        BlockingQueue<String> first = new LinkedBlockingQueue<>();
        DistributedPriorityQueue<String> rated =
                QueueBuilder.builder(ann, into(first), new Text(), "/curator/priority").buildPriorityQueue(0);
        rated.start();
        rated.put("a", 2);
        rated.put("b", 1);
        check(first.poll(PATIENCE_S, TimeUnit.SECONDS) != null && first.poll(PATIENCE_S, TimeUnit.SECONDS) != null, "both come");
        rated.close();
        SimpleDistributedQueue simple = new SimpleDistributedQueue(ann, "/curator/simple");
        Future<byte[]> one = start(() -> new SimpleDistributedQueue(bob, "/curator/simple").take());
        waits(one, "who takes of nothing");
        simple.offer(bytes("x"));
        check(soon(one).length == 1, "it comes");
    }

    private void caches() throws Exception {
        ann.create().forPath("/curator/cache", bytes("0"));
        catchUp();
        CuratorCache cache = CuratorCache.build(bob, "/curator/cache");
        TreeCache tree = new TreeCache(bob, "/curator/cache");
        cache.start();
        tree.start();
        ann.create().forPath("/curator/cache/a", bytes("1"));
        ann.create().creatingParentsIfNeeded().forPath("/curator/cache/b/c", bytes("2"));
        ann.setData().forPath("/curator/cache/a", bytes("33"));
        ann.delete().forPath("/curator/cache/b/c");
        until(() -> cache.size() == 3
                && cache.get("/curator/cache/a").filter(it -> it.getData().length == 2).isPresent()
                && cache.get("/curator/cache/b").isPresent(), "the cache is as the tree");
        until(() -> tree.getCurrentChildren("/curator/cache") != null
                && tree.getCurrentChildren("/curator/cache").size() == 2
                && tree.getCurrentChildren("/curator/cache/b").isEmpty(), "so is the older one");
        cache.close();
        tree.close();
    }

    private void nodes() throws Exception {
        PersistentNode node = new PersistentNode(ann, CreateMode.EPHEMERAL, false, "/curator/node", bytes("here"));
        node.start();
        check(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "it is made");
        catchUp();
        bob.delete().forPath("/curator/node");
        until(() -> bob.checkExists().forPath("/curator/node") != null, "it is made again");
        node.close();
        until(() -> bob.checkExists().forPath("/curator/node") == null, "it goes");
        PersistentTtlNode lasting = new PersistentTtlNode(ann, "/curator/ttl", 2_000, bytes("ttl"));
        lasting.start();
        check(lasting.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "it is made");
        lasting.close();
        GroupMember here = new GroupMember(ann, "/curator/group", "ann");
        GroupMember there = new GroupMember(bob, "/curator/group", "bob");
        here.start();
        there.start();
        until(() -> there.getCurrentMembers().size() == 2, "both are there");
        here.close();
        until(() -> there.getCurrentMembers().size() == 1, "one has left");
        there.close();
    }

    public static void main(String[] arguments) throws Exception {
        CuratorRecipes recipes = new CuratorRecipes(arguments[0]);
        done("framework", recipes::framework);
        done("mutex", recipes::mutex);
        done("read-write lock", recipes::readWriteLock);
        done("semaphore", recipes::semaphore);
        done("leader latch", recipes::leaderLatch);
        done("leader selector", recipes::leaderSelector);
        done("barriers", recipes::barriers);
        done("counters", recipes::counters);
        done("queues", recipes::queues);
        done("caches", recipes::caches);
        done("nodes", recipes::nodes);
        recipes.threads.shutdownNow();
        recipes.ann.close();
        recipes.bob.close();
        System.out.println("all");
        System.exit(0);
    }
}
