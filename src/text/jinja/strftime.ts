/** Python's strftime on the C library, in English and UTC. A directive that is not known stays as it is. */

const pad = (value: number, length = 2, fill = '0'): string => String(value).padStart(length, fill);
const DAY_MS = 86_400_000;

export function formatTime(date: Date, format: string): string {
  return format.replace(/%(-?)([a-zA-Z%])/g, (whole, plain: string, letter: string) => {
    const shown = directive(date, letter);
    if (shown === undefined) return whole;
    return plain === '' ? shown : shown.replace(/^[0 ]+(?=.)/, '');
  });
}

function directive(date: Date, letter: string): string | undefined {
  const word = (options: Intl.DateTimeFormatOptions): string =>
    new Intl.DateTimeFormat('en-US', { ...options, timeZone: 'UTC' }).format(date);
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  const [hour, minute, second] = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()];
  const weekday = date.getUTCDay();
  const dayOfYear = Math.floor((Date.UTC(year, month, day) - Date.UTC(year, 0, 1)) / DAY_MS);
  switch (letter) {
    case 'Y':
      return String(year);
    case 'y':
      return pad(year % 100);
    case 'C':
      return pad(Math.floor(year / 100));
    case 'm':
      return pad(month + 1);
    case 'd':
      return pad(day);
    case 'e':
      return pad(day, 2, ' ');
    case 'H':
      return pad(hour);
    case 'k':
      return pad(hour, 2, ' ');
    case 'I':
      return pad(hour % 12 || 12);
    case 'l':
      return pad(hour % 12 || 12, 2, ' ');
    case 'p':
      return hour < 12 ? 'AM' : 'PM';
    case 'P':
      return hour < 12 ? 'am' : 'pm';
    case 'M':
      return pad(minute);
    case 'S':
      return pad(second);
    case 'f':
      return pad(date.getUTCMilliseconds() * 1000, 6);
    case 'B':
      return word({ month: 'long' });
    case 'b':
    case 'h':
      return word({ month: 'short' });
    case 'A':
      return word({ weekday: 'long' });
    case 'a':
      return word({ weekday: 'short' });
    case 'j':
      return pad(dayOfYear + 1, 3);
    case 'w':
      return String(weekday);
    case 'u':
      return String(weekday || 7);
    case 'U':
      return pad(Math.floor((dayOfYear + 7 - weekday) / 7));
    case 'W':
      return pad(Math.floor((dayOfYear + 7 - ((weekday + 6) % 7)) / 7));
    case 'V':
      return pad(isoWeek(date).week);
    case 'G':
      return String(isoWeek(date).year);
    case 's':
      return String(Math.floor(date.getTime() / 1000));
    case 'F':
      return formatTime(date, '%Y-%m-%d');
    case 'T':
    case 'X':
      return formatTime(date, '%H:%M:%S');
    case 'R':
      return formatTime(date, '%H:%M');
    case 'D':
    case 'x':
      return formatTime(date, '%m/%d/%y');
    case 'r':
      return formatTime(date, '%I:%M:%S %p');
    case 'c':
      return formatTime(date, '%a %b %e %H:%M:%S %Y');
    // A time without a zone.
    case 'Z':
    case 'z':
      return '';
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case '%':
      return '%';
    default:
      return undefined;
  }
}

/** The week that holds the Thursday of the same Monday to Sunday (ISO 8601). */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date.getTime() + (4 - (date.getUTCDay() || 7)) * DAY_MS);
  const year = thursday.getUTCFullYear();
  const days = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS);
  return { year, week: Math.floor(days / 7) + 1 };
}
