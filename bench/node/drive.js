'use strict';
// Drives the queues that are used through a Node.js library, and measures how
// fast a waiting receiver gets a message, for these and for cmq.
//
//	node drive.js <system> <what> <json of options>
//
// what: send, consume, latency.  Prints one line of JSON.  The server is
// found through PGHOST and friends, the database is PGDATABASE.

const { performance } = require('node:perf_hooks');
const { Pool, Client } = require('pg');

const micros = () => (performance.timeOrigin + performance.now()) * 1000;
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

const url = `postgres://${process.env.PGUSER}@/${process.env.PGDATABASE}?host=${process.env.PGHOST}&port=${process.env.PGPORT}`;

// What a system can do: open, close, send(body, client), and either receive
// (one message, taken and acknowledged) or work (calls back for each message).
const systems = {
	pgboss: {
		async open(clients) {
			const PgBoss = require('pg-boss');
			this.boss = new PgBoss({ connectionString: url, max: clients, supervise: false, schedule: false });
			this.boss.on('error', error => { throw error; });
			await this.boss.start();
			if (!await this.boss.getQueue('bench')) await this.boss.createQueue('bench');
		},
		close() { return this.boss.stop({ graceful: false }); },
		send(body) { return this.boss.send('bench', { body }); },
		sendWith(client, body) {
			return this.boss.send('bench', { body }, { db: { executeSql: (text, values) => client.query(text, values) } });
		},
		async load(body, n) {
			for (let i = 0; i < n; i += 1000)
				await this.boss.insert(Array.from({ length: 1000 }, () => ({ name: 'bench', data: { body } })));
			await this.boss.getDb().executeSql('VACUUM ANALYZE pgboss.job');
		},
		async receive() {
			const [job] = await this.boss.fetch('bench');
			if (!job) return undefined;
			await this.boss.complete('bench', job.id);
			return job.data.body;
		},
		work(callback) {
			return this.boss.work('bench', { pollingIntervalSeconds: 0.5 }, async jobs => {
				for (const job of jobs) callback(job.data.body);
			});
		},
		counts: `SELECT count(*) FILTER (WHERE state < 'active') AS pending,
				count(*) FILTER (WHERE state = 'completed') AS consumed FROM pgboss.job WHERE name = 'bench'`,
	},
	graphile: {
		async open(clients) {
			const worker = require('graphile-worker');
			this.pool = new Pool({ connectionString: url, max: clients });
			this.logger = new worker.Logger(() => () => {});
			this.utils = await worker.makeWorkerUtils({ pgPool: this.pool, logger: this.logger });
			await this.utils.migrate();
			this.clients = clients;
		},
		async close() {
			if (this.runner) await this.runner.stop();
			await this.utils.release();
			await this.pool.end();
		},
		send(body) { return this.utils.addJob('bench', { body }); },
		sendWith(client, body) {
			return client.query("SELECT graphile_worker.add_job('bench', $1::json)", [JSON.stringify({ body })]);
		},
		async load(body, n) {
			for (let i = 0; i < n; i += 100)
				await this.pool.query("SELECT count(graphile_worker.add_job('bench', $1::json)) FROM generate_series(1, 100)",
					[JSON.stringify({ body })]);
			await this.pool.query('VACUUM ANALYZE graphile_worker._private_jobs');
		},
		async work(callback) {
			const worker = require('graphile-worker');
			this.runner = await worker.run({
				pgPool: this.pool, logger: this.logger, concurrency: this.clients, pollInterval: 2000, noHandleSignals: true,
				taskList: { bench: payload => { callback(payload.body); } },
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
				callback(result.rows[0].body);
				await this.client.query("SELECT cmq_delete('bench', $1)", [result.rows[0].receipt_handle]);
			}
		},
	},
};

// Clients send, or receive and acknowledge, for some seconds.
async function throughput(system, what, options) {
	let done = 0;
	let wrong = 0;
	await system.open(options.clients);
	if (what === 'consume') await system.load(options.body, options.backlog);

	const begin = performance.now();
	const end = begin + options.seconds * 1000;
	let elapsed;
	if (what === 'consume' && !system.receive) {
		await new Promise((resolve, reject) => {
			const timer = setTimeout(resolve, options.seconds * 1000);
			system.work(body => {
				if (body !== options.body) wrong++;
				if (++done === options.backlog) { clearTimeout(timer); resolve(); }
			}).catch(reject);
		});
		elapsed = performance.now() - begin;
		await system.runner.stop();
		system.runner = undefined;
	} else {
		await Promise.all(Array.from({ length: options.clients }, async () => {
			while (performance.now() < end) {
				if (what === 'send') await system.send(options.body);
				else {
					const body = await system.receive();
					if (body === undefined) throw new Error('a receive found no message');
					if (body !== options.body) wrong++;
				}
				done++;
			}
		}));
		elapsed = performance.now() - begin;
	}
	const client = new Client({ connectionString: url });
	await client.connect();
	const { pending, consumed } = (await client.query(system.counts)).rows[0];
	await client.end();
	await system.close();

	const left = what === 'send' ? done : options.backlog - done;
	if (wrong > 0 || Number(pending) !== left || (consumed !== null && Number(consumed) !== (what === 'send' ? 0 : done)))
		throw new Error(`messages were lost: ${done} done, ${pending} pending instead of ${left}, ${consumed} consumed, ${wrong} wrong`);
	return { rate: done / elapsed * 1000 };
}

// One receiver waits, one sender sends now and then: microseconds from the
// commit record, and from the acknowledgement of the commit, to the receiver.
async function latency(system, options) {
	const received = new Map();
	const sender = new Client({ connectionString: url });
	await system.open(2);
	await sender.connect();
	system.work(body => { received.set(body, micros()); }).catch(error => { if (!system.closing) throw error; });
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
	const result = what === 'latency' ? await latency(systems[name], options)
		: await throughput(systems[name], what, options);
	process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0));
})().catch(error => {
	console.error(error);
	process.exit(1);
});
