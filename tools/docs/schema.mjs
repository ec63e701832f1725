// What is generated from the schema of a job: the JSON Schemas that @finetable/trainer publishes, and the guide's page of all fields. With --check nothing
// is written, and it fails where a file is not what the schema gives. Needs `dist`.
import { readFileSync, writeFileSync } from 'node:fs';
import { batchJsonSchema, jobJsonSchema } from '@finetable/trainer';
import { root } from '../ensure.mjs';

const schemas = { job: jobJsonSchema(), batch: batchJsonSchema() };
const files = Object.fromEntries(
  Object.entries(schemas).map(([name, schema]) => [
    `packages/trainer/${name}.schema.json`,
    `${JSON.stringify(schema, null, 1)}
`,
  ]),
);
files['docs/guide/12-job-fields.md'] = page(schemas.job, schemas.batch);

for (const [file, text] of Object.entries(files)) {
  if (!process.argv.includes('--check')) writeFileSync(root + file, text);
  else if (readFileSync(root + file, 'utf8') !== text) {
    console.error(`${file} is not what the schema gives: node tools/docs/schema.mjs writes it`);
    process.exitCode = 1;
  }
}

/** The page of all fields: a table for each part of a job, a row for each field. */
function page(job, batch) {
  const parts = [];
  part(job, '', parts);
  const rest = [];
  part(batch, '', rest);
  return [
    '---\ntitle: 12. Fields of a job\ngroup: Guide\n---\n',
    '# Fields of a job\n',
    'Generated from the schema, which is published as [job.schema.json](../../packages/trainer/job.schema.json) and [batch.schema.json](../../packages/trainer/batch.schema.json) in `@finetable/trainer`. An editor that',
    'knows the YAML language server checks and completes a job that begins with the line `# yaml-language-server: $schema=node_modules/@finetable/trainer/job.schema.json`, as `finetable init` writes it.',
    '`<name>` stands for names of your own. Fields with * must be there. Parts that are alike are shown once.\n',
    ...parts,
    '## A batch file\n',
    ...rest.map((text) => text.replace('## The job\n\n', '')),
  ].join('\n');
}

/** Adds a table of an object's fields, and those of the objects in it, depth first. */
function part(schema, path, parts, title) {
  const rows = [];
  const inner = [];
  for (const [name, field] of Object.entries(schema.properties)) {
    const at = path === '' ? name : `${path}.${name}`;
    const required = schema.required?.includes(name) && field.const === undefined ? ' *' : '';
    const fallback =
      field.default !== undefined && typeof field.default !== 'object'
        ? ` Default: \`${JSON.stringify(field.default)}\`.`
        : '';
    rows.push(
      `| \`${name}\`${required} | ${kind(field)} | ${cell(field.description ?? '')}${/Default/.test(field.description) ? '' : cell(fallback)} |`,
    );
    inner.push([field, at]);
  }
  const table = rows.join('\n');
  if (parts.some((other) => other.includes(table))) return;
  parts.push(
    `## ${title ?? (path === '' ? 'The job' : `\`${path}\``)}\n\n| field | value | |\n|---|---|---|\n${table}\n`,
  );
  for (const [field, at] of inner) descend(field, at, parts);
}

function descend(field, at, parts) {
  if (field.properties) part(field, at, parts);
  else if (typeof field.additionalProperties === 'object') descend(field.additionalProperties, `${at}.<name>`, parts);
  else if (field.items) descend(field.items, `${at}[]`, parts);
  else
    for (const form of field.oneOf ?? field.anyOf ?? []) {
      const tag = form.properties?.type ?? form.properties?.kind;
      if (form.properties)
        part(
          form,
          at,
          parts,
          `\`${at}\`${tag?.const ? `: ${tag.const}` : ` with \`${Object.keys(form.properties)[0]}\``}`,
        );
      else descend(form, at, parts);
    }
}

/** What a value may be, in a few words. */
function kind(field) {
  if (field.const !== undefined) return `\`${JSON.stringify(field.const)}\``;
  if (field.enum) return field.enum.map((value) => `\`${value}\``).join(', ');
  const forms = field.oneOf ?? field.anyOf;
  if (forms) return [...new Set(forms.map(kind))].join(' or ');
  if (field.type === 'array') return field.items ? `list of ${kind(field.items)}` : 'list';
  if (field.type === 'object') return field.properties ? 'fields' : 'by name';
  const bounds = [
    field.minimum !== undefined && `${field.minimum} or more`,
    field.exclusiveMinimum !== undefined && `more than ${field.exclusiveMinimum}`,
    field.maximum !== undefined && `${field.maximum} or less`,
    field.exclusiveMaximum !== undefined && `less than ${field.exclusiveMaximum}`,
  ].filter(Boolean);
  const name = { integer: 'integer', number: 'number', string: 'text', boolean: 'true, false' }[field.type] ?? 'any';
  return bounds.length > 0 ? `${name}, ${bounds.join(', ')}` : name;
}

function cell(text) {
  return text.replaceAll('|', '\\|');
}
