// A command's parts in order: all of them, or those named as arguments.
export async function runParts(parts, report) {
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((name) => !(name in parts));
  if (unknown !== undefined) {
    console.error(`there is no part "${unknown}"; there are ${Object.keys(parts).join(', ')}`);
    process.exit(2);
  }
  for (const [name, measure] of Object.entries(parts)) {
    if (wanted.length === 0 || wanted.includes(name)) await measure(report);
  }
  return { whole: wanted.length === 0 };
}
