// What is generated from the schema of a job: the JSON Schemas that @finetable/trainer publishes, and the guide's page of all fields. A test fails where
// they are not what the schema gives. Needs `dist`.
import { writeFileSync } from 'node:fs';
import { batchJsonSchema, jobJsonSchema } from '@finetable/trainer';
import { root } from '../ensure.mjs';

for (const [name, schema] of Object.entries({ job: jobJsonSchema(), batch: batchJsonSchema() }))
  writeFileSync(`${root}packages/trainer/${name}.schema.json`, `${JSON.stringify(schema, null, 1)}\n`);
