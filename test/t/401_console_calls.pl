# Each call of the console, and that none happens when the queue has changed meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Console;

run_console_tests('calls');
