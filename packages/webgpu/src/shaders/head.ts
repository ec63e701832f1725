/** What all shaders begin with. */
import { groupThreads } from '../gpu.ts';

export interface Binding {
  readonly name: string;
  /** Of an element. */
  readonly type: string;
  /** Default: only read. */
  readonly written?: boolean;
}

/** Declares arrays as bindings 0, 1, … in order. */
export function declare(bindings: readonly Binding[]): string {
  return bindings
    .map(
      ({ name, type, written }, i) =>
        `@group(0) @binding(${i}) var<storage, ${written ? 'read_write' : 'read'}> ${name}: array<${type}>;`,
    )
    .join('\n');
}

/** The entry point: `body` runs once for each `i`, those past the end of what it writes included. */
export function main(body: string): string {
  return `
@compute @workgroup_size(${groupThreads})
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  // Workgroups lie in two dimensions where there are more of them than one may have.
  let i = id.x + id.y * groups.x * ${groupThreads}u;
${body}
}`;
}
