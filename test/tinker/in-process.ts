/**
 * The client's requests straight to a server of this process, without sockets: thousands of runs take seconds so.
 *
 * Connections break, answers are cut and time runs out as they do on a network; what a restart breaks is told by the
 * server. An answer that is cut before its first byte counts as one of a connection that had been idle.
 */
import { onCancel, throwIfCancelled } from '../../src/engine/clock.ts';
import { Lost, type Loss, type Reply } from '../../src/engine/http.ts';
import { JSON_TYPE, type Requests } from '../../src/engine/tinker/requests.ts';
import type { Delivery, TinkerServer } from './server.ts';
import type { Timers } from './timers.ts';

export function httpTo(server: TinkerServer, timers: Timers): Requests {
  const traffic = { requests: 0, bytesOut: 0, bytesIn: 0 };
  return {
    send: async ({ method, path, body = '', contentType, accept, headers = [], cancel }, timeoutMs) => {
      throwIfCancelled(cancel);
      const bytes = typeof body === 'string' ? Buffer.from(body) : body;
      traffic.requests++;
      traffic.bytesOut += bytes.length;
      const named: Record<string, string> = {
        accept: accept ?? JSON_TYPE,
        'content-type': contentType ?? JSON_TYPE,
        'content-length': String(bytes.length),
      };
      for (let i = 0; i < headers.length; i += 2) named[headers[i] ?? ''] = headers[i + 1] ?? '';
      const arrival = { method, url: `/api/v1/${path}`, headers: named, read: async () => bytes };

      return new Promise<Reply>((resolve, reject) => {
        const end = (): void => {
          stopTimer();
          leave();
          server.connections.delete(cut);
        };
        const lose = (why: Loss): void => {
          end();
          reject(new Lost(why, `a connection that broke (${why})`));
        };
        const cut = (): void => lose('stale');
        const stopTimer = timers.after(timeoutMs, () => lose('timeout'));
        const leave = onCancel(cancel, (error) => {
          end();
          reject(error);
        });
        server.connections.add(cut);
        server.exchange(arrival).then((delivery: Delivery) => {
          if (delivery.sent !== 'whole') {
            lose(delivery.sent === 'half' ? 'cut' : 'stale');
            return;
          }
          end();
          const { status, headers: received = {}, body: whole } = delivery.reply;
          const content = Buffer.from(whole);
          traffic.bytesIn += content.length;
          resolve({ status, headers: received, body: content });
        }, reject);
      });
    },
    traffic: () => ({ ...traffic }),
    close: () => undefined,
  };
}
