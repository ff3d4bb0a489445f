package Seed;

# The seed of a test that draws random numbers: CMQ_TEST_SEED, or another one each
# time.  Sets srand, and says the seed when the test has failed or died, so that the
# run can be repeated.

use strict;
use warnings;

use Exporter qw(import);
use Test::More;

our @EXPORT = qw(seed);

my $seed = $ENV{CMQ_TEST_SEED} || time();
srand($seed);

sub seed { return $seed; }

INIT { note("CMQ_TEST_SEED=$seed"); }

END
{
	diag("CMQ_TEST_SEED=$seed") if $? != 0 || !Test::More->builder->is_passing;
}

1;
