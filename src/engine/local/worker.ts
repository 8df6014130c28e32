/** The engine's thread: serves the protocol over the port that it is given. */
import { workerData, type MessagePort } from 'node:worker_threads';
import type { LocalEngineOptions } from './core.ts';
import { serveEngine } from './host.ts';

const { port, options } = workerData as { port: MessagePort; options: LocalEngineOptions };
serveEngine(port, options);
