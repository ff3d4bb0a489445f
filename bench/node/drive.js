'use strict';
// Drives the queues that are used through a Node.js library, and measures how
// fast a waiting receiver gets a message, for these and for cmq.
//
//	node drive.js <system> <what> <json of options>
//
// what: send, consume, send_batch, consume_batch, publish, life, latency.  Prints "begin" when what is
// measured begins and "end" when it is over, and waits for a line each time: who called
// reads the server's processor time.  Then one line of JSON.  The server is found through
// PGHOST and friends, the database is PGDATABASE.
//
// With groups, messages have a group and a number in it, and each group's must be handled
// in order, one at a time.

const { performance } = require('node:perf_hooks');
const { createInterface } = require('node:readline');
const { Pool, Client } = require('pg');

const micros = () => (performance.timeOrigin + performance.now()) * 1000;
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = async word => {
	process.stdout.write(word + '\n');
	await lines.next();
};

const url = `postgres://${process.env.PGUSER}@/${process.env.PGDATABASE}?host=${process.env.PGHOST}&port=${process.env.PGPORT}`;

// What a system can do: open, close, send(message, client), sendBatch, load, and either
// receive (some messages, with what acknowledges them) or work (calls back for each message).
const systems = {
	pgboss: {
		async open(options) {
			const { PgBoss } = await import('pg-boss');
			this.boss = new PgBoss({
				connectionString: url, max: options.clients, supervise: false, schedule: false, useListenNotify: !!options.notify,
			});
			this.boss.on('error', error => { throw error; });
			await this.boss.start();
			this.queues = options.queues ? Array.from({ length: options.queues }, (_, i) => `bench_${i + 1}`) : ['bench'];
			for (const queue of this.queues) {
				if (!await this.boss.getQueue(queue))
					await this.boss.createQueue(queue, { policy: options.groups ? 'key_strict_fifo' : 'standard', notify: !!options.notify });
				if (options.queues) await this.boss.subscribe('bench', queue);
			}
		},
		close() { return this.boss.stop({ graceful: false }); },
		async send(message) {
			if (!await this.boss.send('bench', message, message.group === undefined ? {} : { singletonKey: `g${message.group}` }))
				throw new Error('a job was not stored');
		},
		sendWith(client, body) {
			return this.boss.send('bench', { body }, { db: { executeSql: (text, values) => client.query(text, values) } });
		},
		sendBatch(messages) {
			return this.boss.insert('bench', messages.map(data =>
				data.group === undefined ? { data } : { data, singletonKey: `g${data.group}` }));
		},
		publish(message) { return this.boss.publish('bench', message); },
		async vacuum() { await this.boss.getDb().executeSql('VACUUM ANALYZE pgboss.job'); },
		async receive(n, queue = 'bench') {
			const jobs = await this.boss.fetch(queue, { batchSize: n });
			return { messages: jobs.map(job => job.data), done: () => this.boss.complete(queue, jobs.map(job => job.id)) };
		},
		work(callback) {
			return this.boss.work('bench', { pollingIntervalSeconds: 0.5 }, async jobs => {
				for (const job of jobs) await callback(job.data);
			});
		},
		counts: `SELECT count(*) FILTER (WHERE state < 'active') AS pending,
				count(*) FILTER (WHERE state = 'completed') AS consumed FROM pgboss.job WHERE name LIKE 'bench%'`,
	},
	graphile: {
		async open(options) {
			const worker = require('graphile-worker');
			// its workers need one more to listen
			this.pool = new Pool({ connectionString: url, max: options.clients + 2 });
			this.pool.on('error', () => {});
			this.pool.on('connect', client => client.on('error', () => {}));
			this.logger = new worker.Logger(() => () => {});
			this.utils = await worker.makeWorkerUtils({ pgPool: this.pool, logger: this.logger });
			await this.utils.migrate();
			this.options = options;
		},
		async close() {
			if (this.runner) await this.runner.stop();
			await this.utils.release();
			await this.pool.end();
		},
		send(message) {
			return this.utils.addJob('bench', message, message.group === undefined ? {} : { queueName: `g${message.group}` });
		},
		sendWith(client, body) {
			return client.query("SELECT graphile_worker.add_job('bench', $1::json)", [JSON.stringify({ body })]);
		},
		sendBatch(messages) {
			return this.utils.addJobs(messages.map(payload =>
				payload.group === undefined ? { identifier: 'bench', payload } : { identifier: 'bench', payload, queueName: `g${payload.group}` }));
		},
		async vacuum() { await this.pool.query('VACUUM ANALYZE graphile_worker._private_jobs'); },
		async work(callback) {
			const worker = require('graphile-worker');
			const batch = this.options.batch || 1;
			this.runner = await worker.run({
				pgPool: this.pool, logger: this.logger, noHandleSignals: true,
				taskList: { bench: callback },
				preset: { worker: { concurrentJobs: this.options.clients, pollInterval: 2000,
					...(batch > 1 ? { concurrentJobs: batch, localQueue: { size: batch }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {}) } },
			});
		},
		// a job that is done is deleted
		counts: 'SELECT count(*) AS pending, NULL AS consumed FROM graphile_worker.jobs',
	},
	cmq: {
		async open() {
			this.client = new Client({ connectionString: url });
			await this.client.connect();
			await this.client.query("SELECT cmq_create_queue('bench', polling_wait_seconds => 30)");
		},
		async close() { await this.client.end(); },
		sendWith(client, body) { return client.query("SELECT cmq_send('bench', $1)", [body]); },
		async work(callback) {
			for (;;) {
				let result;
				try { result = await this.client.query("SELECT body, receipt_handle FROM cmq_receive('bench')"); }
				catch (error) { if (this.closing) return; throw error; }
				if (result.rows.length === 0) continue;
				callback({ body: result.rows[0].body });
				await this.client.query("SELECT cmq_delete('bench', $1)", [result.rows[0].receipt_handle]);
			}
		},
	},
};

// Whether messages come whole, and those of a group in order, one at a time.
class Check {
	constructor(options) {
		this.options = options;
		this.wrong = 0;
		this.disorder = 0;
		this.next = new Map();
		this.busy = new Set();
	}
	begin(message) {
		if (message.body !== this.options.body) this.wrong++;
		if (message.group === undefined) return;
		if (this.busy.has(message.group) || message.seq !== (this.next.get(message.group) ?? 0)) this.disorder++;
		this.next.set(message.group, message.seq + 1);
		this.busy.add(message.group);
	}
	end(message) { if (message.group !== undefined) this.busy.delete(message.group); }
}

// A call stores no two messages of a group: those of one call have no order in pg-boss.
async function load(system, options) {
	const { body, backlog, groups } = options;
	const size = Math.min(1000, groups || 1000);
	for (let i = 0; i < backlog; i += size)
		await system.sendBatch(Array.from({ length: Math.min(size, backlog - i) }, (_, j) =>
			groups ? { body, group: (i + j) % groups, seq: Math.floor((i + j) / groups) } : { body }));
	await system.vacuum();
}

// One message after the other, until there is none, or the time is over.
async function take(system, options, end, check, queue) {
	let done = 0;
	while (performance.now() < end) {
		const { messages, done: acknowledge } = await system.receive(options.batch || 1, queue);
		if (messages.length === 0) {
			if (options.all || options.batch > 1) break;
			if (!options.groups) throw new Error('a receive found no message');
			check.empty = (check.empty || 0) + 1;
			continue;
		}
		for (const message of messages) check.begin(message);
		for (const message of messages) check.end(message);
		await acknowledge();
		done += messages.length;
	}
	return done;
}

// Workers take messages, until so many are done, or the time is over.
async function work(system, options, n, check) {
	let done = 0;
	await new Promise((resolve, reject) => {
		const timer = setTimeout(resolve, options.seconds * 1000);
		system.work(async message => {
			check.begin(message);
			check.end(message);
			if (++done === n) { clearTimeout(timer); resolve(); }
		}).catch(reject);
	});
	return () => done;
}

async function counts(system) {
	const client = new Client({ connectionString: url });
	await client.connect();
	const { pending, consumed } = (await client.query(system.counts)).rows[0];
	await client.end();
	return { pending: Number(pending), consumed: consumed === null ? null : Number(consumed) };
}

// Clients send, or receive and acknowledge, for some seconds.
async function throughput(system, what, options) {
	const check = new Check(options);
	const sends = /^send/.test(what);
	const batch = options.batch || 1;
	let done = 0;
	await system.open(options);
	if (!sends) await load(system, options);

	await say('begin');
	const cpu = process.cpuUsage();
	const begin = performance.now();
	const end = begin + options.seconds * 1000;
	let elapsed;
	let timely;		// done before workers are told to stop
	if (!sends && !system.receive) {
		const count = await work(system, options, options.backlog, check);
		elapsed = performance.now() - begin;
		timely = count();
		await system.runner.stop();
		system.runner = undefined;
		done = count();
	} else if (!sends) {
		done = (await Promise.all(Array.from({ length: options.clients }, () => take(system, options, end, check)))).reduce((a, b) => a + b);
		elapsed = performance.now() - begin;
	} else {
		const message = () => options.groups ? { body: options.body, group: Math.floor(Math.random() * options.groups) } : { body: options.body };
		await Promise.all(Array.from({ length: options.clients }, async () => {
			while (performance.now() < end) {
				if (batch === 1) await system.send(message());
				else await system.sendBatch(Array.from({ length: batch }, message));
				done += batch;
			}
		}));
		elapsed = performance.now() - begin;
	}
	const used = process.cpuUsage(cpu);
	await say('end');
	const { pending, consumed } = await counts(system);
	await system.close();

	const left = sends ? done : options.backlog - done;
	if (check.wrong > 0 || pending !== left || (consumed !== null && consumed !== (sends ? 0 : done)))
		throw new Error(`messages were lost: ${done} done, ${pending} pending instead of ${left}, ${consumed} consumed, ${check.wrong} wrong`);
	if (check.disorder > 0) throw new Error(`${check.disorder} messages of ${done} were not in the order of their group`);
	return { rate: (timely ?? done) / elapsed * 1000, done, client_cpu: (used.user + used.system) / done, ...(options.groups && !sends ? { empty: (check.empty || 0) / (done + (check.empty || 0)) } : {}) };
}

// One client brings so many messages to all queues that have subscribed; with life, one more
// takes them from each of these queues, a hundred at a time, and that counts, too.
async function publish(system, what, options) {
	const check = new Check(options);
	const n = options.messages;
	await system.open(options);
	await say('begin');
	const cpu = process.cpuUsage();
	const begin = performance.now();
	let done = 0;
	if (n) for (; done < n; done++) await system.publish({ body: options.body });
	else await Promise.all(Array.from({ length: options.clients }, async () => {
		while (performance.now() < begin + options.seconds * 1000) {
			await system.publish({ body: options.body });
			done++;
		}
	}));
	const elapsed = performance.now() - begin;
	let taken = 0;
	if (what === 'life')
		for (const queue of system.queues) taken += await take(system, { ...options, batch: 100, all: true }, Infinity, check, queue);
	const used = process.cpuUsage(cpu);
	await say('end');
	const { pending, consumed } = await counts(system);
	await system.close();
	const copies = done * options.queues;
	if (check.wrong > 0 || (what === 'life' && taken !== copies) || pending !== copies - taken || consumed !== taken)
		throw new Error(`messages were lost: ${copies} copies, ${taken} taken, ${pending} pending, ${consumed} consumed, ${check.wrong} wrong`);
	return { rate: done / elapsed * 1000, done, client_cpu: (used.user + used.system) / done };
}

// So many messages are sent by one client, and then taken by one, one at a time.
async function life(system, options) {
	const check = new Check(options);
	const n = options.messages;
	await system.open(options);
	await say('begin');
	const cpu = process.cpuUsage();
	for (let i = 0; i < n; i++) await system.send({ body: options.body });
	let taken;
	if (system.receive) taken = await take(system, { ...options, all: true }, Infinity, check);
	else {
		const count = await work(system, { ...options, seconds: 3600 }, n, check);
		await system.runner.stop();
		system.runner = undefined;
		taken = count();
	}
	const used = process.cpuUsage(cpu);
	await say('end');
	const { pending } = await counts(system);
	await system.close();
	if (check.wrong > 0 || taken !== n || pending !== 0)
		throw new Error(`messages were lost: ${n} sent, ${taken} taken, ${pending} pending, ${check.wrong} wrong`);
	return { done: n, client_cpu: (used.user + used.system) / n };
}

// One receiver waits, one sender sends now and then: microseconds from the
// commit record, and from the acknowledgement of the commit, to the receiver.
async function latency(system, options) {
	const received = new Map();
	const sender = new Client({ connectionString: url });
	await system.open({ clients: 2, notify: true });
	await sender.connect();
	system.work(async message => { received.set(message.body, micros()); }).catch(error => { if (!system.closing) throw error; });
	await sleep(1500);

	const sent = [];
	for (let i = 0; i < options.messages; i++) {
		const body = `message ${i}`;
		await sender.query('BEGIN');
		await system.sendWith(sender, body);
		const xid = (await sender.query('SELECT pg_current_xact_id()::xid AS xid')).rows[0].xid;
		await sender.query('COMMIT');
		sent.push({ body, xid, acknowledged: micros() });
		for (let waited = 0; !received.has(body) && waited < 10000; waited++) await sleep(1);
		await sleep(5 + Math.random() * 15);
	}
	const commit = [];
	const acknowledged = [];
	for (const s of sent) {
		if (!received.has(s.body)) throw new Error(`${s.body} did not arrive`);
		const t = (await sender.query(
			"SELECT (extract(epoch FROM pg_xact_commit_timestamp($1::text::xid)) * 1000000)::float8 AS t", [s.xid])).rows[0].t;
		commit.push(received.get(s.body) - t);
		acknowledged.push(received.get(s.body) - s.acknowledged);
	}
	await sender.end();
	system.closing = true;
	return { commit, acknowledged };
}

(async () => {
	const [name, what, json] = process.argv.slice(2);
	const options = JSON.parse(json);
	const system = systems[name];
	const result = what === 'latency' ? await latency(system, options)
		: what === 'life' && !options.queues ? await life(system, options)
			: options.queues ? await publish(system, what, options)
				: await throughput(system, what, options);
	process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0));
})().catch(error => {
	console.log(error);
	process.exit(1);
});
