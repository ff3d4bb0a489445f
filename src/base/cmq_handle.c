/*-------------------------------------------------------------------------
 *
 * cmq_handle.c
 *	  Message ids and receipt handles as text and numbers.
 *
 * A receipt handle is the key of the pending row that the receive left,
 * (enqueued_at, visible_at), with the counts of that row:
 *
 *		<msg_id>-<visible_at>-<receive_count>-<rewind_count>
 *		<msg_id>-<visible_at>-<receive_count>-<rewind_count>-<change_count>
 *
 * all decimal, times in Unix microseconds; change_count is left out if it is 0.  The
 * key alone finds the row.  The counts make sure that no message ever has the same
 * handle twice, whenever its visibility timeouts end:
 *	- rewind_count is one higher each time that the message is brought back;
 *	- change_count is one higher each time that the row gets a new visible_at by
 *	  other means than a receive, and begins anew when the message is brought back;
 *	- receive_count is one higher with each receive, and less only where change_count
 *	  is higher.
 * (What is rolled back has not been, and neither have its handles.)  Only the one
 * canonical spelling is accepted, so equal handles are equal texts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type_d.h"
#include "common/int.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"

#define UNIX_EPOCH_OFFSET \
	(((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(cmq_msg_id);
PG_FUNCTION_INFO_V1(cmq_enqueued_at);
PG_FUNCTION_INFO_V1(cmq_time_of);
PG_FUNCTION_INFO_V1(cmq_times_of);

int64
cmq_time_to_msg_id(TimestampTz time)
{
	return time + UNIX_EPOCH_OFFSET;
}

Datum
cmq_msg_id(PG_FUNCTION_ARGS)
{
	TimestampTz time = PG_GETARG_TIMESTAMPTZ(0);

	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an infinite time has no msg_id")));
	if (time > PG_INT64_MAX - UNIX_EPOCH_OFFSET)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time is too late for a msg_id")));
	PG_RETURN_INT64(cmq_time_to_msg_id(time));
}

/* The time that has this id; false if none has. */
bool
cmq_msg_id_to_time(int64 msg_id, TimestampTz *time)
{
	return !pg_sub_s64_overflow(msg_id, UNIX_EPOCH_OFFSET, time) &&
		IS_VALID_TIMESTAMP(*time);
}

Datum
cmq_enqueued_at(PG_FUNCTION_ARGS)
{
	int64		msg_id = PG_GETARG_INT64(0);
	TimestampTz time;

	if (!cmq_msg_id_to_time(msg_id, &time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("msg_id out of range: %lld", (long long) msg_id)));
	PG_RETURN_TIMESTAMPTZ(time);
}

/* The time with which to compare instead of this id: infinite where no time has it. */
TimestampTz
cmq_msg_id_bound(int64 msg_id)
{
	TimestampTz time;

	if (cmq_msg_id_to_time(msg_id, &time))
		return time;
	return msg_id < 0 ? DT_NOBEGIN : DT_NOEND;
}

Datum
cmq_time_of(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(cmq_msg_id_bound(PG_GETARG_INT64(0)));
}

/* The same for each element; NULLs stay, and so do the dimensions. */
Datum
cmq_times_of(PG_FUNCTION_ARGS)
{
	ArrayType  *ids = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(ids, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (!nulls[i])
			elements[i] = TimestampTzGetDatum(cmq_msg_id_bound(DatumGetInt64(elements[i])));
	}
	PG_RETURN_ARRAYTYPE_P(construct_md_array(elements, nulls, ARR_NDIM(ids),
											 ARR_DIMS(ids), ARR_LBOUND(ids),
											 TIMESTAMPTZOID, sizeof(TimestampTz),
											 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* The text of a handle, palloc'd. */
char *
cmq_handle_out(const CmqHandle *handle)
{
	char	   *str = palloc(2 * (MAXINT8LEN + 1) + 3 * 12);
	char	   *p = str;

	p += pg_lltoa(cmq_time_to_msg_id(handle->enqueued_at), p);
	*p++ = '-';
	p += pg_lltoa(cmq_time_to_msg_id(handle->visible_at), p);
	*p++ = '-';
	p += pg_ltoa(handle->receive_count, p);
	*p++ = '-';
	p += pg_ltoa(handle->rewind_count, p);
	if (handle->change_count > 0)
	{
		*p++ = '-';
		p += pg_ltoa(handle->change_count, p);
	}
	*p = '\0';
	return str;
}

/* Read digits up to the delimiter; false unless canonical and within max. */
static bool
read_number(const char **str, char delimiter, int64 max, int64 *result)
{
	const char *p = *str;
	int64		value = 0;

	if (*p < '0' || *p > '9' || (p[0] == '0' && p[1] != delimiter))
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
	{
		int			digit = *p - '0';

		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (*p != delimiter)
		return false;
	*result = value;
	*str = (delimiter == '\0') ? p : p + 1;
	return true;
}

/* The last numbers of a handle: rewind_count, and change_count unless that is 0. */
static bool
read_last_numbers(const char **str, int64 *rewind_count, int64 *change_count)
{
	*change_count = 0;
	return read_number(str, '\0', INT_MAX, rewind_count) ||
		(read_number(str, '-', INT_MAX, rewind_count) &&
		 read_number(str, '\0', INT_MAX, change_count) &&
		 *change_count > 0);
}

/* Parse a handle; raises 22P02. */
void
cmq_handle_in(const char *str, CmqHandle *handle)
{
	const char *p = str;
	int64		enqueued_at,
				visible_at,
				receive_count,
				rewind_count,
				change_count;

	if (!read_number(&p, '-', PG_INT64_MAX, &enqueued_at) ||
		!read_number(&p, '-', PG_INT64_MAX, &visible_at) ||
		!read_number(&p, '-', INT_MAX, &receive_count) ||
		!read_last_numbers(&p, &rewind_count, &change_count))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("malformed receipt handle: \"%s\"", str),
				 errhint("Pass the receipt_handle that cmq_receive or cmq_change_visibility returned.")));

	handle->enqueued_at = enqueued_at - UNIX_EPOCH_OFFSET;
	handle->visible_at = visible_at - UNIX_EPOCH_OFFSET;
	handle->receive_count = (int) receive_count;
	handle->rewind_count = (int) rewind_count;
	handle->change_count = (int) change_count;
}
