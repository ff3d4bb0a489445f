/*-------------------------------------------------------------------------
 *
 * cmq_filter.c
 *	  Check tags, routing keys and filters, and match them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/cmq_args.h"
#include "verbs/cmq_filter.h"

static void
report_filter(const char *argname, const char *topic, const char *value,
			  const char *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value in %s for topic \"%s\": \"%s\"", argname,
					topic, value),
			 errdetail("%s", rule)));
}

void
cmq_filter_check_tag(const char *value, const char *argname, const char *topic)
{
	if (value[0] == '\0' || pg_mbstrlen(value) > CMQ_TAG_MAX)
		report_filter(argname, topic, value, "A tag has 1 to 16 characters.");
}

void
cmq_filter_check_key(const char *value, const char *argname, const char *topic)
{
	int			ndots = 0;

	for (const char *p = value; *p; p++)
		ndots += *p == '.';
	if (value[0] == '\0' || strlen(value) > CMQ_KEY_MAX ||
		ndots > CMQ_KEY_DOTS_MAX)
		report_filter(argname, topic, value,
					  "A key has 1 to 64 bytes and at most 15 dots.");
}

/*
 * Check each element of an array of filters or tags; put them into *elements, unless
 * elements is NULL.  Returns how many.  Raises 22023.
 */
int
cmq_filter_elements(Datum array, const char *argname, const char *topic,
					CmqFilterCheck check, char ***elements)
{
	Datum	   *datums;
	bool	   *isnull;
	int			n = cmq_array_arg(array, TEXTOID, argname, "topic", topic,
								  &datums, &isnull);

	if (n < 1 || n > CMQ_FILTERS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements for topic \"%s\"", argname, n,
						topic),
				 errdetail("It must have between 1 and %d, or be NULL.",
						   CMQ_FILTERS_MAX)));
	if (elements)
		*elements = palloc(n * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		char	   *value;

		if (isnull[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain NULL for topic \"%s\"",
							argname, topic)));
		value = TextDatumGetCString(datums[i]);
		check(value, argname, topic);
		if (elements)
			(*elements)[i] = value;
	}
	return n;
}

/* Split a checked key into words; returns how many. */
static int
split_key(const char *key, const char **words, size_t *lengths)
{
	int			n = 0;

	for (;;)
	{
		words[n] = key;
		lengths[n] = strcspn(key, ".");
		key += lengths[n++];
		if (*key == '\0' || n > CMQ_KEY_DOTS_MAX)
			return n;
		key++;
	}
}

/*
 * Does the binding key match the routing key?  The loop goes through the words of the
 * binding key, and keeps the set of positions in the routing key up to which the words so
 * far can match.
 */
bool
cmq_filter_key_matches(const char *binding_key, const char *routing_key)
{
	const char *patterns[CMQ_KEY_DOTS_MAX + 1];
	const char *words[CMQ_KEY_DOTS_MAX + 1];
	size_t		pattern_lengths[CMQ_KEY_DOTS_MAX + 1];
	size_t		lengths[CMQ_KEY_DOTS_MAX + 1];
	int			npatterns = split_key(binding_key, patterns, pattern_lengths);
	int			nwords = split_key(routing_key, words, lengths);
	uint32		positions = 1;	/* bit n: n words are matched */

	for (int i = 0; i < npatterns; i++)
	{
		uint32		next = 0;
		char		wildcard = pattern_lengths[i] == 1 ? *patterns[i] : '\0';

		for (int j = 0; j <= nwords; j++)
		{
			if (!(positions & (1U << j)))
				continue;
			if (wildcard == '#')
			{
				/* from here on every position can be reached */
				next |= ~((1U << j) - 1);
				break;
			}
			if (j < nwords &&
				(wildcard == '*' ? lengths[j] > 0 :
				 lengths[j] == pattern_lengths[i] &&
				 strncmp(words[j], patterns[i], lengths[j]) == 0))
				next |= 1U << (j + 1);
		}
		positions = next;
	}
	return (positions & (1U << nwords)) != 0;
}
