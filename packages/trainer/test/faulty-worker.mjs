// A job's thread that fails in the way that the job is named after, in the middle of its run.
import runRequest from '../dist/batch/worker.js';

const failures = {
  exit: () => process.exit(3),
  throw: () => {
    throw new Error('thrown on purpose');
  },
};

export default async function runFaultyRequest(request) {
  const fail = failures[request.loaded.job.name];
  if (!fail) return runRequest(request);
  const send = request.port.postMessage.bind(request.port);
  request.port.postMessage = (message) => {
    send(message);
    // Later than the message is taken away, and outside of what catches errors of the job.
    if (message.type === 'training' && message.event.type === 'evaluation') setImmediate(fail);
  };
  return runRequest(request);
}
