/** A limit on what is under way at once, in calls or in bytes; who waits is served in the order of arrival. */
import { onCancel, throwIfCancelled, type Cancel } from '../clock.ts';

export interface Budget {
  /**
   * Waits until there is room, and returns what gives it back, which must be called once. More than the whole budget passes when nothing else is
   * under way. Throws the R3Error of a cancellation.
   */
  take(amount: number, cancel: Cancel): Promise<() => void>;
}

interface Waiter {
  amount: number;
  start: () => void;
}

/** `limit` is asked each time that something may start: it may change. */
export function makeBudget(limit: () => number): Budget {
  let used = 0;
  const waiters = new Set<Waiter>();
  const fits = (amount: number): boolean => used === 0 || used + amount <= limit();
  const admit = (): void => {
    for (const waiter of waiters) {
      if (!fits(waiter.amount)) return;
      waiters.delete(waiter);
      used += waiter.amount;
      waiter.start();
    }
  };
  return {
    take: async (amount, cancel) => {
      throwIfCancelled(cancel);
      if (waiters.size === 0 && fits(amount)) used += amount;
      else {
        await new Promise<void>((resolve, reject) => {
          const waiter: Waiter = {
            amount,
            start: () => {
              leave();
              resolve();
            },
          };
          const leave = onCancel(cancel, (error) => {
            waiters.delete(waiter);
            reject(error);
            admit();
          });
          waiters.add(waiter);
        });
      }
      return () => {
        used -= amount;
        admit();
      };
    },
  };
}
