// A schema that drizzle-kit has pulled can be loaded, and a view of it read.
//   metadata.js <directory> <name of the view in the schema>

const { buildSync } = require('esbuild');
const { drizzle } = require('drizzle-orm/node-postgres');

const [dir, view] = process.argv.slice(2);
buildSync({ entryPoints: [`${dir}/schema.ts`], outfile: `${dir}/schema.js`, bundle: true, platform: 'node', packages: 'external' });
const schema = require(`${dir}/schema.js`);

(async () => {
  const db = drizzle(`postgresql://${process.env.PGUSER}@127.0.0.1:${process.env.PGPORT}/postgres`);
  for (const row of await db.select().from(schema[view]))
    console.log(`${row.body} ${row.state}`);
  await db.$client.end();
})();
