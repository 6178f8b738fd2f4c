// The npm package node-zookeeper-client: what it offers, once. Says "all" when each did what it is
// for, and fails with the first that did not.
//
//   node node_client.js SERVERS
'use strict';

const assert = require('assert');
const { promisify } = require('util');
const zookeeper = require('node-zookeeper-client');

const { ACL, CreateMode, Event, Exception, Id, Permission } = zookeeper;

const PATIENCE_MS = 60000;

function connected(servers) {
    const client = zookeeper.createClient(servers, { sessionTimeout: 10000 });
    return new Promise((resolve) => {
        client.once('connected', () => resolve(client));
        client.connect();
    });
}

// The first argument of the callback is an error, the others are the answer.
function ask(client, method, ...args) {
    return new Promise((resolve, reject) => {
        client[method](...args, (error, ...answer) => (error ? reject(error) : resolve(answer)));
    });
}

// An event that a watch is to bring.
function event(set) {
    return new Promise((resolve, reject) => {
        set(resolve).catch(reject);
    });
}

async function refused(code, asked) {
    await assert.rejects(asked, (error) => error.getCode && error.getCode() === code);
}

async function main(servers) {
    const [ann, bob] = [await connected(servers), await connected(servers)];
    // Bob may be with a member that is behind, and this client has no sync.
    const seen = async (path) => {
        const made = event(async (watcher) => {
            const [stat] = await ask(bob, 'exists', path, watcher);
            if (stat) watcher();
        });
        await made;
    };

    await promisify(ann.mkdirp).call(ann, '/node/deep');
    const [path] = await ask(ann, 'create', '/node/a', Buffer.from('one'));
    assert.strictEqual(path, '/node/a');
    await refused(Exception.NODE_EXISTS, ask(ann, 'create', '/node/a'));
    await seen('/node/a');
    const [data, stat] = await ask(bob, 'getData', '/node/a');
    assert.strictEqual(data.toString(), 'one');
    assert.strictEqual(stat.version, 0);

    const changed = event((watcher) => ask(bob, 'getData', '/node/a', watcher));
    const listed = event((watcher) => ask(bob, 'getChildren', '/node', watcher));
    const made = event((watcher) => ask(bob, 'exists', '/node/b', watcher));
    await ask(bob, 'exists', '/'); // behind what was asked before
    const [set] = await ask(ann, 'setData', '/node/a', Buffer.from('two'), 0);
    assert.strictEqual(set.version, 1);
    await refused(Exception.BAD_VERSION, ask(ann, 'setData', '/node/a', Buffer.from('x'), 7));
    const created = await ask(ann, 'create', '/node/b', CreateMode.EPHEMERAL);
    assert.deepStrictEqual(created, ['/node/b']);
    assert.strictEqual((await changed).getType(), Event.NODE_DATA_CHANGED);
    assert.strictEqual((await listed).getType(), Event.NODE_CHILDREN_CHANGED);
    assert.strictEqual((await made).getType(), Event.NODE_CREATED);

    const [one] = await ask(ann, 'create', '/node/s-', CreateMode.PERSISTENT_SEQUENTIAL);
    const [two] = await ask(ann, 'create', '/node/s-', CreateMode.EPHEMERAL_SEQUENTIAL);
    assert.ok(/^\/node\/s-\d{10}$/.test(one) && one < two, one + ' ' + two);

    await refused(Exception.NOT_EMPTY, ask(ann, 'remove', '/node'));
    await refused(Exception.NO_NODE, ask(ann, 'remove', '/nowhere'));

    const transaction = ann.transaction()
        .check('/node/a', 1)
        .create('/node/t', Buffer.from('t'))
        .setData('/node/t', Buffer.from('u'), 0)
        .remove('/node/a', 1);
    const results = await promisify(transaction.commit).call(transaction);
    assert.strictEqual(results.length, 4);
    const failing = ann.transaction().remove('/node/t').remove('/nowhere');
    await refused(Exception.NO_NODE, promisify(failing.commit).call(failing));
    assert.strictEqual((await ask(ann, 'getData', '/node/t'))[0].toString(), 'u');

    ann.addAuthInfo('digest', Buffer.from('ann:secret'));
    const mine = [new ACL(Permission.ALL, new Id('auth', ''))];
    await ask(ann, 'create', '/node/mine', Buffer.from('m'), mine);
    await ask(ann, 'create', '/node/after');
    await seen('/node/after');
    await refused(Exception.NO_AUTH, ask(bob, 'getData', '/node/mine'));
    const [acls] = await ask(ann, 'getACL', '/node/mine');
    assert.strictEqual(acls[0].id.scheme, 'digest');
    await ask(ann, 'setACL', '/node/mine', ACL.OPEN_ACL_UNSAFE);
    assert.strictEqual((await ask(ann, 'getData', '/node/mine'))[0].toString(), 'm');

    // Its ephemerals go with it.
    const gone = event((watcher) => ask(bob, 'exists', '/node/b', watcher));
    await ask(bob, 'exists', '/'); // behind what was asked before
    ann.close();
    assert.strictEqual((await gone).getType(), Event.NODE_DELETED);
    await promisify(bob.removeRecursive).call(bob, '/node');
    bob.close();
    console.log('all');
}

setTimeout(() => assert.fail('not done in time'), PATIENCE_MS).unref();
main(process.argv[2]).catch((error) => {
    console.error(error);
    process.exit(1);
});
