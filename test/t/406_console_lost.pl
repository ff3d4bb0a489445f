# A connection that breaks under an open page and comes back: PostgreSQL's, the console's,
# and one whose answer is lost.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Console;

run_console_tests('lost');
